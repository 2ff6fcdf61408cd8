//! JSON text as Go's `encoding/json` writes it: that is what the signature is over.

use std::fmt::{Display, Write as _};

use base64::{engine::general_purpose::STANDARD, Engine};

/// An integer without quotes: what has at most 32 bits.
pub(super) fn integer(out: &mut String, value: impl Display) {
    // Writing to a string does not fail.
    let _ = write!(out, "{value}");
}

/// An integer in quotes: what has 64 bits.
pub(super) fn quoted(out: &mut String, value: impl Display) {
    let _ = write!(out, "\"{value}\"");
}

/// Bytes in standard base64 with padding.
pub(super) fn base64(out: &mut String, bytes: &[u8]) {
    out.push('"');
    STANDARD.encode_string(bytes, out);
    out.push('"');
}

/// A string, escaped as Go does for HTML. `\b` and `\f` are those of Go 1.22 and of JavaScript; earlier Go wrote `\u0008` and `\u000c`.
pub(super) fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_html_and_javascript_would_trip_over_is_escaped() {
        let mut out = String::new();
        string(&mut out, "a<b>&\"\\/\u{1}\u{8}\u{c}\n\r\t\u{7f}\u{2028}\u{2029}é𝄞");
        let expected = r#""a\u003cb\u003e\u0026\"\\/\u0001\b\f\n\r\t"#.to_owned() + "\u{7f}" + r"\u2028\u2029é𝄞" + "\"";
        assert_eq!(out, expected);
    }

    proptest! {
        #[test]
        fn every_string_reads_back_as_it_was(text in any::<String>()) {
            let mut out = String::new();
            string(&mut out, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&out).expect("JSON"), text);
        }
    }
}
