//! What a YAML 1.1 reader takes a plain scalar for, and how it is spelt where a string is wanted.
//!
//! The readers of podman, docker, containerd and the rest agree on these readings (all use the Go
//! library): `on` is true, `010` is 8, `1_0` is 10, `1:0` is a string. A name that is written so
//! in a spec is known to them as "true", "8", "10", so it must be to us.

/// A scalar, read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    /// Between the smallest i64 and the largest u64.
    Int(i128),
    Float(f64),
    Text,
}

/// What a plain scalar of this text is.
pub(crate) fn read(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Scalar::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Scalar::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        _ => number(text).unwrap_or(Scalar::Text),
    }
}

fn number(text: &str) -> Option<Scalar> {
    match text.as_bytes().first()? {
        // Here alone an underscore has to stand between digits.
        b'.' if !underscores_separate_digits(text) => None,
        b'.' => float(&text.replace('_', "")).map(Scalar::Float),
        b'0'..=b'9' | b'+' | b'-' => {
            let bare = text.replace('_', "");
            integer(&bare).map(Scalar::Int).or_else(|| float(&bare).map(Scalar::Float))
        }
        _ => None,
    }
}

fn underscores_separate_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |index: Option<usize>| {
        index.and_then(|index| bytes.get(index)).is_some_and(|byte| byte.is_ascii_digit())
    };
    let mut underscores = text.match_indices('_');
    underscores.all(|(index, _)| digit(index.checked_sub(1)) && digit(Some(index + 1)))
}

fn integer(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let value = match based(unsigned)? {
        (radix, digits) if digits.starts_with(|first: char| first.is_digit(radix)) => {
            i128::from_str_radix(digits, radix).ok()?
        }
        // `0b-1` passes, a slip of the reader that all share; no other base has it.
        (2, digits) if text.starts_with("0b") => i128::from(i64::from_str_radix(digits, 2).ok()?),
        _ => return None,
    };
    let value = if negative { -value } else { value };
    let fits = i128::from(i64::MIN)..=i128::from(u64::MAX);
    fits.contains(&value).then_some(value)
}

/// The radix that a number's prefix says, and the digits after it.
fn based(unsigned: &str) -> Option<(u32, &str)> {
    let bytes = unsigned.as_bytes();
    match (bytes.first()?, bytes.get(1)) {
        (b'0', Some(b'x' | b'X')) => Some((16, unsigned.get(2..)?)),
        (b'0', Some(b'o' | b'O')) => Some((8, unsigned.get(2..)?)),
        (b'0', Some(b'b' | b'B')) => Some((2, unsigned.get(2..)?)),
        (b'0', Some(_)) => Some((8, unsigned.get(1..)?)),
        _ => Some((10, unsigned)),
    }
}

/// `[-+]? (digits [. digits?] | . digits) ([eE] [-+]? digits)?`, in the range of a double.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let shaped = digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent));
    let value: f64 = if shaped { text.parse().ok()? } else { return None };
    value.is_finite().then_some(value)
}

/// How a float is spelt where a string is wanted: in single precision, as Go's `%g` does.
pub(crate) fn spell(value: f64) -> String {
    #[allow(clippy::cast_possible_truncation)] // the reader's own loss
    let single = value as f32;
    if single.is_nan() {
        return "NaN".to_owned();
    }
    if single.is_infinite() {
        return if single > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{single:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return single.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a string, or `null`; the verdicts are those of the Go library.
    fn string(text: &str) -> String {
        match read(text) {
            Scalar::Null => "null".to_owned(),
            Scalar::Bool(value) => value.to_string(),
            Scalar::Int(value) => value.to_string(),
            Scalar::Float(value) => spell(value),
            Scalar::Text => text.to_owned(),
        }
    }

    #[test]
    fn words_of_yaml_1_1() {
        for text in ["on", "y", "Y", "yes", "Yes", "YES", "true", "TRUE"] {
            assert_eq!(read(text), Scalar::Bool(true), "{text}");
        }
        for text in ["off", "n", "N", "no", "No", "NO", "false", "False"] {
            assert_eq!(read(text), Scalar::Bool(false), "{text}");
        }
        for text in ["", "~", "null", "Null", "NULL"] {
            assert_eq!(read(text), Scalar::Null, "{text}");
        }
        for text in ["yEs", "tRUE", "oN", "nULL", "inf", "nan", "NaN", ".Nan", "=", "<<", "+", "-", ".", "é"]
        {
            assert_eq!(read(text), Scalar::Text, "{text}");
        }
    }

    #[test]
    fn integers_of_yaml_1_1_as_strings() {
        let table = [
            ("0", "0"),
            ("010", "8"),
            ("0777", "511"),
            ("0o17", "15"),
            ("0O17", "15"),
            ("0x10", "16"),
            ("0X1f", "31"),
            ("0b101", "5"),
            ("0B11", "3"),
            ("0b-1", "-1"),
            ("1_0", "10"),
            ("1_", "1"),
            ("+1_0", "10"),
            ("1__0", "10"),
            ("-_5", "-5"),
            ("-5", "-5"),
            ("+5", "5"),
            ("-010", "-8"),
            ("-0x10", "-16"),
            ("0x_f", "15"),
            ("0_7", "7"),
            ("00", "0"),
            ("-0", "0"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
        ];
        for (text, expected) in table {
            assert!(matches!(read(text), Scalar::Int(_)), "{text}");
            assert_eq!(string(text), expected, "{text}");
        }
    }

    #[test]
    fn floats_of_yaml_1_1_as_strings() {
        let table = [
            ("08", "8"),
            ("0888", "888"),
            ("1e3", "1000"),
            ("1E3", "1000"),
            ("1.50", "1.5"),
            ("1.", "1"),
            ("1.e3", "1000"),
            (".5", "0.5"),
            (".5e3", "500"),
            (".5_0", "0.5"),
            ("5._0", "5"),
            ("+.5", "0.5"),
            ("1_0.5_0", "10.5"),
            ("1e-400", "0"),
            ("1e5", "100000"),
            ("1e6", "1e+06"),
            ("-0.0", "-0"),
            ("1234567.0", "1.234567e+06"),
            ("123456789.5", "1.2345679e+08"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("1e21", "1e+21"),
            ("1e1_0", "1e+10"),
            (".nan", "NaN"),
            (".inf", "+Inf"),
            ("-.INF", "-Inf"),
            ("18446744073709551616", "1.8446744e+19"),
            ("-9223372036854775809", "-9.223372e+18"),
            ("1e39", "+Inf"),
        ];
        for (text, expected) in table {
            assert!(matches!(read(text), Scalar::Float(_)), "{text}");
            assert_eq!(string(text), expected, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_number_is_a_string() {
        for text in [
            "0xg",
            "0x",
            "0o",
            "0b",
            "0b12",
            "-0b-1",
            "_1",
            "+-5",
            "._5",
            "1e400",
            "-1e400",
            "1:0",
            "190:20:30",
            "2001-12-14",
            "2001-12-14 21:59:43",
            "0.5.0",
            "0x1p4",
            "1e",
            "e1",
            "1e1.5",
            "1 000",
            "1,000",
            "0x-1",
            "0o-1",
            "--1",
            "0-1",
        ] {
            assert_eq!(read(text), Scalar::Text, "{text}");
        }
    }
}
