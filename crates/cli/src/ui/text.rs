//! Formats counts, numbers, durations and lists for people.

use console::measure_text_width;
use dataset::image_folder::KindCount;
use dataset::inspect::{DuplicateGroup, DuplicateKind};

/// Maximum number of names in a list. An ellipsis replaces the remaining names.
const SHOWN: usize = 8;

/// A count with its noun: `1 image`, `2 images`, `3 classes`, `4 batches`.
pub fn pluralize(count: usize, noun: &str) -> String {
    let ending = match noun {
        _ if count == 1 => "",
        "batch" | "class" => "es",
        _ => "s",
    };
    format!("{count} {noun}{ending}")
}

/// Formats a loss in at most 10 columns: `0.1234`, `12345.7`, `3.182e12`.
pub fn loss(loss: f64) -> String {
    match loss.abs() {
        ..1e4 => format!("{loss:.4}"),
        ..1e6 => format!("{loss:.1}"),
        f64::INFINITY => loss.to_string(),
        1e6.. => format!("{loss:.3e}"),
        _ => loss.to_string(),
    }
}

/// Formats a fraction as a percentage: `0.95424` as `95.4 %`.
pub fn percent(fraction: f64) -> String {
    format!("{:.1} %", 100.0 * fraction)
}

/// Formats an interval of fractions as percentages: `90.8 to 97.8 %`.
pub fn percent_range([low, high]: [f64; 2]) -> String {
    format!("{:.1} to {:.1} %", 100.0 * low, 100.0 * high)
}

/// Formats a duration in at most its two largest units: `0.4s`, `12s`, `3m 12s`, `1h 05m`, `2d 3h`.
pub fn duration(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    let seconds = seconds.round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// Formats an estimate: up to 50 s rounded up to 10 s, above to whole minutes, like [`duration`] but
/// without units that are 0: `~40s`, `~13m`, `~1h`, `~1h 05m`.
pub fn estimate(seconds: f64) -> String {
    if seconds <= 50.0 {
        return format!("~{}s", 10 * (seconds / 10.0).ceil() as u64);
    }
    let text = duration(60.0 * (seconds / 60.0).round().max(1.0));
    let zeros = [" 00s", " 00m", " 0h"];
    let zeros = zeros.iter().find_map(|zero| text.strip_suffix(zero));
    format!("~{}", zeros.unwrap_or(&text))
}

/// Formats a learning rate, with an exponent below 0.01: `1e-3`, `0.05`.
pub fn learning_rate(lr: f64) -> String {
    if lr < 0.01 {
        format!("{lr:e}")
    } else {
        lr.to_string()
    }
}

/// Formats the number and names of classes: `2 classes: ants, bees`.
pub fn classes(classes: &[String]) -> String {
    format!("{}: {}", pluralize(classes.len(), "class"), list(classes))
}

/// Formats names: `ants, bees`.
pub fn list(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).map(String::as_str);
    let more = (names.len() > SHOWN).then_some("…");
    shown.chain(more).collect::<Vec<_>>().join(", ")
}

/// A group of duplicates: how alike they are, and the paths of at most `most` images.
pub fn duplicates(group: &DuplicateGroup, most: usize) -> String {
    let kind = match group.kind {
        DuplicateKind::File => "same file",
        DuplicateKind::Pixels => "same pixels",
        DuplicateKind::Near => "nearly the same",
    };
    let images = group.images.iter().take(most);
    let paths: Vec<_> = images.map(|image| image.path.as_str()).collect();
    let more = if group.images.len() > most {
        ", …"
    } else {
        ""
    };
    format!("{kind}: {}{more}", paths.join(", "))
}

/// Lists the numbers of unused files: `12 HEIC images, 1 text file`. `None` if there are none.
pub fn unused_files(counts: &[KindCount]) -> Option<String> {
    let counts: Vec<String> = counts.iter().map(KindCount::to_string).collect();
    (!counts.is_empty()).then(|| counts.join(", "))
}

/// Pads with spaces on the right to `width` columns of the terminal.
pub fn pad_right(text: &str, width: usize) -> String {
    format!("{text}{}", spaces(text, width))
}

/// Pads with spaces on the left to `width` columns of the terminal.
pub fn pad_left(text: &str, width: usize) -> String {
    format!("{}{text}", spaces(text, width))
}

fn spaces(text: &str, width: usize) -> String {
    " ".repeat(width.saturating_sub(measure_text_width(text)))
}

/// Cuts `text` with an ellipsis to at most `width` columns of the terminal.
pub fn shorten(text: &str, width: usize) -> String {
    console::truncate_str(text, width, "…").into_owned()
}

/// Breaks `text` at spaces into lines of at most `width` columns. Longer words stay whole.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is at least one line");
        if line.is_empty() {
            line.push_str(word);
        } else if measure_text_width(line) + 1 + measure_text_width(word) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_string());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        assert_eq!(pluralize(0, "image"), "0 images");
        assert_eq!(pluralize(1, "class"), "1 class");
        assert_eq!(pluralize(2, "class"), "2 classes");
        assert_eq!(pluralize(1, "batch"), "1 batch");
        assert_eq!(pluralize(11, "batch"), "11 batches");
        assert_eq!(pluralize(3, "epoch"), "3 epochs");
    }

    #[test]
    fn losses_of_a_million_and_more_have_an_exponent() {
        let cases = [
            (0.123_449, "0.1234"),
            (9999.25, "9999.2500"),
            (123_456.78, "123456.8"),
            (3_182_201_664_580.577_8, "3.182e12"),
            (f64::MAX, "1.798e308"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "NaN"),
        ];
        for (value, text) in cases {
            assert_eq!(loss(value), text);
        }
    }

    #[test]
    fn durations_have_two_units_at_most() {
        let cases = [
            (0.42, "0.4s"),
            (9.96, "10s"),
            (59.6, "1m 00s"),
            (191.6, "3m 12s"),
            (3900.0, "1h 05m"),
            (183_600.0, "2d 3h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn estimates_are_in_tens_of_seconds_or_in_minutes() {
        let cases = [
            (0.1, "~10s"),
            (31.0, "~40s"),
            (50.1, "~1m"),
            (791.0, "~13m"),
            (3580.0, "~1h"),
            (3900.0, "~1h 05m"),
            (86_390.0, "~1d"),
            (189_000.0, "~2d 4h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(estimate(seconds), text);
        }
    }

    #[test]
    fn small_learning_rates_have_an_exponent() {
        assert_eq!(learning_rate(1e-3), "1e-3");
        assert_eq!(learning_rate(0.05), "0.05");
    }

    #[test]
    fn padding_counts_terminal_columns() {
        assert_eq!(pad_right("蚂蚁", 6), "蚂蚁  ");
        assert_eq!(pad_left("é", 3), "  é");
        assert_eq!(shorten("蚂蚁蜜蜂", 5), "蚂蚁…");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(
            wrap("a incomprehensibilities b", 4),
            ["a", "incomprehensibilities", "b"]
        );
    }

    #[test]
    fn class_lists_end_after_eight_names() {
        let names: Vec<String> = (0..9).map(|number| number.to_string()).collect();
        assert_eq!(classes(&names), "9 classes: 0, 1, 2, 3, 4, 5, 6, 7, …");
        assert_eq!(classes(&names[..1]), "1 class: 0");
    }
}
