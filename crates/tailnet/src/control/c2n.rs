//! Requests of control to the node. Only what is true is answered: this node hosts no Tailscale Services and lets nothing be changed.

/// Answers the HTTP/1 request in `request` with a serialised HTTP/1 response.
pub(crate) fn answer(request: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(request);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let line = head.lines().next().unwrap_or_default();
    let mut words = line.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    match (method, path) {
        ("POST", "/echo") => response("200 OK", "text/plain", body),
        ("GET", "/vip-services") => response("200 OK", "application/json", r#"{"VIPServices":[],"ServicesHash":""}"#),
        _ => response("404 Not Found", "text/plain", "this node does not answer that"),
    }
}

fn response(status: &str, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: &str) -> String {
        String::from_utf8(answer(request.as_bytes())).unwrap()
    }

    #[test]
    fn services_are_an_empty_list() {
        let answer = ask("GET /vip-services HTTP/1.1\r\nHost: c2n\r\n\r\n");
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(r#""VIPServices":[]"#),
            "{answer}"
        );
    }

    #[test]
    fn unknown_request_is_answered_with_not_found() {
        for request in ["POST /update HTTP/1.1\r\n\r\n", "", "\r\n\r\n", "GET"] {
            assert!(ask(request).starts_with("HTTP/1.1 404 "), "{request:?}");
        }
    }

    #[test]
    fn echo_repeats_the_body() {
        assert!(ask("POST /echo HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi").ends_with("\r\n\r\nhi"));
    }
}
