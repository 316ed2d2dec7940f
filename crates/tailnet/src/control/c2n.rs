//! Requests of control to the node. Only what is true is answered, and nothing lets control change the machine.

use crate::node::NodePrefs;

/// What a node that does not update itself says to those who ask for it.
const NO_UPDATE: &str =
    r#"{"Enabled":false,"Supported":false,"Started":false,"Err":"this node does not update itself"}"#;

/// What a node without posture checks says of its identity.
const NO_POSTURE: &str = r#"{"SerialNumbers":[],"PostureDisabled":true}"#;

/// Answers the HTTP/1 request in `request` with a serialised HTTP/1 response.
pub(crate) fn answer(request: &[u8], prefs: &NodePrefs) -> Vec<u8> {
    let (head, body) = split(request);
    let head = String::from_utf8_lossy(head);
    let line = head.lines().next().unwrap_or_default();
    let mut words = line.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    match (method, path) {
        (_, "/echo") => response("200 OK", "text/plain", body),
        ("GET", "/vip-services") => match serde_json::to_vec(&prefs.services()) {
            Ok(services) => response("200 OK", "application/json", &services),
            Err(_) => response("500 Internal Server Error", "text/plain", b""),
        },
        ("GET" | "POST", "/update") => response("200 OK", "application/json", NO_UPDATE.as_bytes()),
        ("GET", "/posture/identity") => response("200 OK", "application/json", NO_POSTURE.as_bytes()),
        // There are no logs to flush: this node sends none.
        ("POST", "/logtail/flush") => response("204 No Content", "text/plain", b""),
        _ => response("404 Not Found", "text/plain", b"this node does not answer that"),
    }
}

/// Head and body.
fn split(request: &[u8]) -> (&[u8], &[u8]) {
    const END: &[u8] = b"\r\n\r\n";
    match request.windows(END.len()).position(|window| window == END) {
        Some(at) => (&request[..at], &request[at + END.len()..]),
        None => (request, &[]),
    }
}

fn response(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: &str) -> String {
        let mut prefs = NodePrefs::default();
        let ports = vec!["tcp:443".parse().unwrap()];
        prefs.advertise_services.insert("svc:web".to_owned(), ports);
        String::from_utf8(answer(request.as_bytes(), &prefs)).unwrap()
    }

    #[test]
    fn services_are_told_with_their_hash() {
        let answer = ask("GET /vip-services HTTP/1.1\r\nHost: c2n\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let services = r#""VIPServices":[{"Name":"svc:web","Ports":["tcp:443"],"Active":true}],"ServicesHash":""#;
        assert!(answer.contains(services), "{answer}");
    }

    #[test]
    fn request_for_an_update_is_declined_in_the_form_that_control_reads() {
        for method in ["GET", "POST"] {
            let answer = ask(&format!("{method} /update HTTP/1.1\r\n\r\n"));
            assert!(answer.contains(r#""Supported":false"#), "{answer}");
        }
    }

    #[test]
    fn unknown_request_is_answered_with_not_found() {
        for request in [
            "POST /debug/prefs HTTP/1.1\r\n\r\n",
            "",
            "\r\n\r\n",
            "GET",
            "DELETE /vip-services HTTP/1.1\r\n\r\n",
        ] {
            assert!(ask(request).starts_with("HTTP/1.1 404 "), "{request:?}");
        }
    }

    #[test]
    fn echo_repeats_the_body_byte_by_byte() {
        let request = [
            &b"POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\n"[..],
            b"\xff\x00\r\n\r\n",
        ]
        .concat();
        assert!(answer(&request, &NodePrefs::default()).ends_with(b"\r\n\r\n\xff\x00\r\n\r\n"));
    }
}
