//! Path templates of `google.api.http`: literal segments, `*`, `**` and `{field.path=segments}`.

use percent_encoding::percent_decode_str;

/// What one segment of a template matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    /// This text. Sorts first: `/blocks/latest` wins over `/blocks/{height}`.
    Literal(String),
    /// One segment.
    One,
    /// The rest of the path, of any length.
    Rest,
}

/// A part of the path that is a field of the request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Variable {
    field: String,
    /// Its segments are these of the template.
    from: usize,
    to: usize,
}

/// A parsed template. Templates sort by how exact they are, the most exact first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Template {
    segments: Vec<Segment>,
    variables: Vec<Variable>,
}

/// The parts of one path that are fields: field path and decoded text.
pub(crate) type Bound<'a> = Vec<(&'a str, String)>;

impl Template {
    /// Parses a template. Error: what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text
            .strip_prefix('/')
            .ok_or_else(|| format!("path template {text:?} must begin with /"))?;
        let mut template = Self {
            segments: Vec::new(),
            variables: Vec::new(),
        };
        loop {
            let end = if rest.starts_with('{') {
                let close = rest
                    .find('}')
                    .ok_or_else(|| format!("path template {text:?} has an open brace"))?;
                template.variable(&rest[1..close])?;
                close.saturating_add(1)
            } else {
                let end = rest.find('/').unwrap_or(rest.len());
                template.segments.push(segment(&rest[..end])?);
                end
            };
            rest = match rest[end..].strip_prefix('/') {
                Some(more) => more,
                None if rest[end..].is_empty() => break,
                None => return Err(format!("path template {text:?}: after a brace must come / or the end")),
            };
        }
        let many = template.segments.iter().position(|s| *s == Segment::Rest);
        if many.is_some_and(|at| at.saturating_add(1) != template.segments.len()) {
            return Err(format!("path template {text:?}: ** must be the last segment"));
        }
        Ok(template)
    }

    fn variable(&mut self, text: &str) -> Result<(), String> {
        let (field, pattern) = text.split_once('=').unwrap_or((text, "*"));
        if field.is_empty() {
            return Err(format!("variable {{{text}}} names no field"));
        }
        let from = self.segments.len();
        for part in pattern.split('/') {
            self.segments.push(segment(part)?);
        }
        self.variables.push(Variable {
            field: field.to_owned(),
            from,
            to: self.segments.len(),
        });
        Ok(())
    }

    /// Whether a path's raw segments match; if so, its parts that are fields. Error: a segment is not UTF-8 once decoded.
    pub(crate) fn matches<'t>(&'t self, path: &[&str]) -> Option<Result<Bound<'t>, String>> {
        let fixed = match self.segments.last() {
            Some(Segment::Rest) => self.segments.len().saturating_sub(1),
            _ if path.len() != self.segments.len() => return None,
            _ => self.segments.len(),
        };
        if path.len() < fixed {
            return None;
        }
        for (segment, given) in self.segments[..fixed].iter().zip(path) {
            match segment {
                Segment::Literal(text) if text != given => return None,
                // `//` is no segment.
                Segment::One if given.is_empty() => return None,
                _ => {}
            }
        }
        let bind = |variable: &'t Variable| {
            let to = if self.segments[variable.to.saturating_sub(1)] == Segment::Rest {
                path.len()
            } else {
                variable.to
            };
            let decoded: Result<Vec<String>, String> = path[variable.from..to].iter().map(|s| decode(s)).collect();
            Ok((variable.field.as_str(), decoded?.join("/")))
        };
        Some(self.variables.iter().map(bind).collect())
    }

    /// The field paths that it binds.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|v| v.field.as_str())
    }

    /// As OpenAPI writes it: each variable is `{field.path}`.
    pub(crate) fn plain(&self) -> String {
        let mut out = String::new();
        let mut at = 0;
        while at < self.segments.len() {
            out.push('/');
            match self.variables.iter().find(|v| v.from == at) {
                Some(variable) => {
                    out.push('{');
                    out.push_str(&variable.field);
                    out.push('}');
                    at = variable.to;
                }
                None => {
                    out.push_str(match &self.segments[at] {
                        Segment::Literal(text) => text,
                        Segment::One => "*",
                        Segment::Rest => "**",
                    });
                    at = at.saturating_add(1);
                }
            }
        }
        out
    }
}

fn segment(text: &str) -> Result<Segment, String> {
    match text {
        "*" => Ok(Segment::One),
        "**" => Ok(Segment::Rest),
        "" => Err("a path template has an empty segment".to_owned()),
        text if text.contains([':', '{', '}', '*']) => Err(format!(
            "segment {text:?}: custom verbs and mixed segments are not supported"
        )),
        text => Ok(Segment::Literal(text.to_owned())),
    }
}

fn decode(segment: &str) -> Result<String, String> {
    percent_decode_str(segment)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| format!("path segment {segment:?} is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(template: &str, path: &str) -> Option<Vec<(String, String)>> {
        let template = Template::parse(template).expect("template");
        let segments: Vec<&str> = path[1..].split('/').collect();
        let found = template.matches(&segments)?.expect("UTF-8");
        Some(found.into_iter().map(|(f, t)| (f.to_owned(), t)).collect())
    }

    #[test]
    fn templates_bind_what_they_match() {
        let pair = |f: &str, t: &str| vec![(f.to_owned(), t.to_owned())];
        assert_eq!(bound("/a/b", "/a/b"), Some(vec![]));
        assert_eq!(bound("/a/b", "/a/c"), None);
        assert_eq!(bound("/a/{x}", "/a/b"), Some(pair("x", "b")));
        assert_eq!(bound("/a/{x}", "/a/b%2Fc%20d"), Some(pair("x", "b/c d")));
        assert_eq!(bound("/a/{x}", "/a/"), None);
        assert_eq!(bound("/a/{x}", "/a/b/c"), None);
        assert_eq!(bound("/a/{x}/c", "/a/b/c"), Some(pair("x", "b")));
        assert_eq!(bound("/a/{x.y=**}", "/a/b/c"), Some(pair("x.y", "b/c")));
        assert_eq!(bound("/a/{x=**}", "/a"), Some(pair("x", "")));
        assert_eq!(bound("/a/{x=b/*}/d", "/a/b/c/d"), Some(pair("x", "b/c")));
        assert_eq!(bound("/a/{x=b/*}/d", "/a/c/c/d"), None);
    }

    #[test]
    fn exact_templates_come_first() {
        let mut all: Vec<Template> = ["/b/{x=**}", "/b/{h}", "/b/latest"]
            .map(|t| Template::parse(t).expect("template"))
            .into();
        all.sort();
        let plain: Vec<String> = all.iter().map(Template::plain).collect();
        assert_eq!(plain, ["/b/latest", "/b/{h}", "/b/{x}"]);
    }

    #[test]
    fn what_cannot_be_served_is_refused_at_start() {
        for bad in [
            "",
            "a",
            "/",
            "/a//b",
            "/a/{x",
            "/a/{}",
            "/a/{x=**}/b",
            "/a:verb",
            "/a/{x}b",
        ] {
            assert!(Template::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let template = Template::parse("/a/{x}").expect("template");
        assert!(template.matches(&["a", "%ff"]).expect("matches").is_err());
    }
}
