//! What an answer means.

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, header};
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};

use crate::{error::Error, http::Answer, types::ErrorBody};

/// Letters of a server's message that are kept.
pub(crate) const MESSAGE_LIMIT: usize = 300;

/// The answer, or what its status says against it.
pub(super) fn judge(action: String, answer: Answer) -> Result<Answer, Error> {
    if answer.status.is_success() {
        return Ok(answer);
    }
    let message = message_of(&answer.body);
    Err(match answer.status {
        StatusCode::NOT_FOUND => Error::NotFound { action },
        StatusCode::UNAUTHORIZED => Error::Unauthorized { action, message },
        StatusCode::FORBIDDEN => Error::Forbidden { action, message },
        StatusCode::TOO_MANY_REQUESTS => Error::RateLimited {
            action,
            retry_after: retry_after(&answer.headers),
        },
        status if status.is_server_error() => Error::Server {
            action,
            status,
            message,
        },
        status => Error::Refused {
            action,
            status,
            message,
        },
    })
}

/// How long the server asks to wait: in seconds, or until a date, which is taken by the server's own clock if it tells
/// the time (RFC 9110 §10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = text(headers, &header::RETRY_AFTER)?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = date(headers, &header::DATE).unwrap_or_else(Timestamp::now);
    let seconds = date(headers, &header::RETRY_AFTER)?.as_second() - now.as_second();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(text(headers, name)?).ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// The server's words in one line, cut, without what is not meant for people.
pub(crate) fn message_of(body: &[u8]) -> String {
    let parsed: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
    let text = parsed.message.or(parsed.error_description).or(parsed.error);
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        "no message".to_owned()
    } else {
        line.chars().take(MESSAGE_LIMIT).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue, header};

    use super::retry_after;

    fn asks(retry: &'static str, date: Option<&'static str>) -> Option<Duration> {
        let mut headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(retry))]);
        headers.extend(date.map(|date| (header::DATE, HeaderValue::from_static(date))));
        retry_after(&headers)
    }

    #[test]
    fn rest_is_understood_in_seconds_and_as_a_date_by_the_servers_clock() {
        let now = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(asks("7", None), Some(Duration::from_secs(7)));
        assert_eq!(
            asks("Sun, 06 Nov 1994 08:51:07 GMT", now),
            Some(Duration::from_secs(90))
        );
        assert_eq!(asks("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(asks("Sun, 06 Nov 1994 08:51:07 GMT", None), Some(Duration::ZERO));
        assert_eq!(asks("soon", now), None);
    }
}
