//! Amounts of resources as Kubernetes writes them: `500m`, `1.5Gi`, `2e3`. The API server rewrites them to a normal
//! form, so the same amount may be written in two ways.

use std::cmp::Ordering;

/// Parts of one that are told apart.
const NANO: i128 = 1_000_000_000;

/// Whether the two amounts are the same; texts that are no amounts are the same when they are equal.
pub(crate) fn same(one: &str, other: &str) -> bool {
    one == other || compare(one, other) == Some(Ordering::Equal)
}

/// Whether `one` is not more than `other`; true when one of them is no amount.
pub(crate) fn at_most(one: &str, other: &str) -> bool {
    compare(one, other) != Some(Ordering::Greater)
}

fn compare(one: &str, other: &str) -> Option<Ordering> {
    Some(nanos(one)?.cmp(&nanos(other)?))
}

/// The amount in billionths, rounded up as the API server does; `None` when the text is no amount or too large.
fn nanos(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (factor, divisor) = scale(suffix)?;
    let divisor = divisor.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let product = digits.checked_mul(factor)?.checked_mul(NANO)?;
    let amount = product / divisor + i128::from(product % divisor != 0);
    Some(if negative { -amount } else { amount })
}

/// What a suffix multiplies with, as a fraction.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    let binary = |power: u32| Some((1_i128 << (10 * power), 1));
    let decimal = |power: u32| Some((10_i128.checked_pow(power)?, 1));
    match suffix {
        "n" => Some((1, NANO)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "" => Some((1, 1)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            Some(if exponent < 0 { (1, power) } else { (power, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{at_most, same};

    #[test]
    fn an_amount_is_recognised_in_another_form() {
        for (one, other) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("2e3", "2k"),
            ("1E", "1000P"),
            ("+1", "1"),
            ("128974848", "123Mi"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
        for (one, other) in [("1", "1m"), ("1M", "1Mi"), ("x", "y"), ("", "0")] {
            assert!(!same(one, other), "{one} {other}");
        }
        assert!(same("x", "x"));
    }

    #[test]
    fn amounts_are_ordered() {
        assert!(at_most("24Mi", "32Mi") && at_most("24Mi", "24Mi"));
        assert!(!at_most("24Mi", "16Mi") && !at_most("100m", "0.05"));
    }
}
