//! Tables for people.

/// Columns of a width that fits, two spaces apart; the first row are the headings.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let longest = rows
            .iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default();
        longest.max(headings[column].len())
    });
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = padded.collect::<Vec<_>>().join("  ");
        line.trim_end().to_owned()
    };
    let rows = rows
        .iter()
        .map(|row| line(std::array::from_fn(|column| row[column].as_str())));
    std::iter::once(line(headings))
        .chain(rows)
        .collect::<Vec<_>>()
        .join("\n")
}

/// A moment of the API without its fractions of a second.
pub(super) fn moment(text: &str) -> String {
    let whole = text.split('.').next().unwrap_or_default().trim_end_matches('Z');
    if whole.is_empty() || whole.starts_with("0001-") {
        "never".to_owned()
    } else {
        format!("{whole}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["a".to_owned(), "bbbb".to_owned()],
            ["cccccc".to_owned(), String::new()],
        ];
        assert_eq!(table(["ID", "TAG"], &rows), "ID      TAG\na       bbbb\ncccccc");
    }

    #[test]
    fn moments_are_whole_seconds_or_never() {
        assert_eq!(moment("2026-11-22T10:00:00.123Z"), "2026-11-22T10:00:00Z");
        assert_eq!(moment("2026-11-22T10:00:00Z"), "2026-11-22T10:00:00Z");
        assert_eq!(moment("0001-01-01T00:00:00Z"), "never");
        assert_eq!(moment(""), "never");
    }
}
