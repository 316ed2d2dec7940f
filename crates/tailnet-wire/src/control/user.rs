//! Users and logins.

use super::UserId;
use crate::object::wire_struct;
use crate::time::GoTime;

wire_struct! {
    /// A user of the tailnet, as a register response names it.
    pub struct User {
        /// The user's number.
        always "ID" => id: UserId,
        /// A name for people.
        always "DisplayName" => display_name: String,
        /// Where a picture is; empty for none.
        omit "ProfilePicURL" => profile_pic_url: String,
        /// When the user was made.
        always "Created" => created: GoTime,
    }
}

wire_struct! {
    /// The login at an identity provider that a user came with.
    pub struct Login {
        /// The login's number.
        always "ID" => id: i64,
        /// The identity provider.
        always "Provider" => provider: String,
        /// The login name, in the form of an e-mail address.
        always "LoginName" => login_name: String,
        /// A name for people.
        always "DisplayName" => display_name: String,
        /// Where a picture is; empty for none.
        omit "ProfilePicURL" => profile_pic_url: String,
    }
}

wire_struct! {
    /// What a network map says about the owner of a node.
    pub struct UserProfile {
        /// The user's number, as in `Node.User`.
        always "ID" => id: UserId,
        /// The login name, in the form of an e-mail address.
        always "LoginName" => login_name: String,
        /// A name for people.
        always "DisplayName" => display_name: String,
        /// Where a picture is; empty for none.
        omit "ProfilePicURL" => profile_pic_url: String,
    }
}
