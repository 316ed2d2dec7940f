//! New credentials, from the operating system's randomness.

use isthmus_runtime::Secret;
use rand::Rng;

use crate::state::Credential;

/// A credential with an id of 6 and a secret of 24 random bytes.
pub(crate) fn new_credential() -> Credential {
    let mut random = rand::rng();
    let (mut id, mut secret) = ([0; 6], [0; 24]);
    random.fill_bytes(&mut id);
    random.fill_bytes(&mut secret);
    Credential {
        id: format!("k{}", hex::encode(id)),
        secret: Secret::new(hex::encode(secret)),
    }
}

/// A new OAuth client's id and secret, for the configuration of a tailbox.
pub fn generate_oauth_client() -> (String, Secret) {
    let credential = new_credential();
    let secret = credential.text("client");
    (credential.id, secret)
}
