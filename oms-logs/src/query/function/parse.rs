//! Structured text as dynamic values: URLs, paths, CSV, command lines, versions.

use super::arguments::Args;
use super::dynamic_text::make_values;
use super::kernel::call as kernel_call;
use super::{Call, Function, Naming, Parameter, coerce, kernel, parse_xml, special};
use crate::query::bound::Expr;
use crate::query::diagnostic::Problem;
use crate::query::dynamic::{Keyed, Value};
use crate::query::types::KqlType;
use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result as DfResult;

const PLAIN: Naming = Naming::Default;

const fn parser(name: &'static str, run: super::KernelFn) -> Function {
    kernel(name, PLAIN, &[Parameter::Text], KqlType::Dynamic, run)
}

/// A parser whose column is called like its argument.
const fn named(name: &'static str, run: super::KernelFn) -> Function {
    kernel(name, Naming::FirstArgument, &[Parameter::Text], KqlType::Dynamic, run)
}

pub(super) const FUNCTIONS: &[Function] = &[
    parser("parse_url", |args| each(args, parse_url)),
    parser("parseurl", |args| each(args, parse_url)),
    parser("parse_urlquery", |args| each(args, parse_url_query)),
    parser("parseurlquery", |args| each(args, parse_url_query)),
    parser("parse_path", |args| each(args, parse_path)),
    named("parse_csv", |args| each(args, parse_csv)),
    named("parse_xml", |args| each(args, parse_xml::parse)),
    special("parse_command_line", PLAIN, bind_command_line),
    kernel("parse_version", PLAIN, &[Parameter::Text], KqlType::Decimal, |args| {
        let version = args.text(0)?;
        Ok(args.make_text(|row| parse_version(version.get(row))))
    }),
];

fn each(args: &Args<'_>, parse: impl Fn(&str) -> Option<Value>) -> DfResult<ArrayRef> {
    let column = args.text(0)?;
    make_values(args, |row| parse(column.get(row)))
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn bag<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Bag(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// The text before and after the first separator; all of it before if there is none.
fn cut<'a>(text: &'a str, separator: &str) -> (&'a str, &'a str) {
    text.split_once(separator).unwrap_or((text, ""))
}

/// `scheme://user:password@host:port/path?query#fragment`; a URL without a scheme may be a query.
fn parse_url(url: &str) -> Option<Value> {
    let (rest, fragment) = cut(url, "#");
    let (rest, query) = cut(rest, "?");
    let (scheme, rest) = match rest.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None => match rest.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) && !rest.is_empty() => (scheme, rest),
            _ => ("", rest),
        },
    };
    let has_authority = url.get(scheme.len()..).is_some_and(|rest| rest.starts_with("://"));
    let (authority, path) = if has_authority {
        rest.find('/').and_then(|at| rest.split_at_checked(at)).unwrap_or((rest, ""))
    } else {
        ("", rest)
    };
    let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = cut(user, ":");
    // An IPv6 address stands in brackets.
    let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').unwrap_or_default()),
        None => cut(place, ":"),
    };
    Some(bag([
        ("Scheme", text(scheme)),
        ("Host", text(host)),
        ("Port", text(port)),
        ("Path", text(path)),
        ("Username", text(user)),
        ("Password", text(password)),
        ("Query Parameters", query_parameters(query)),
        ("Fragment", text(fragment)),
    ]))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn parse_url_query(query: &str) -> Option<Value> {
    let query = query.split_once('?').map_or(query, |(_, query)| query);
    Some(bag([("Query Parameters", query_parameters(query))]))
}

/// A later parameter of the same name counts.
fn query_parameters(query: &str) -> Value {
    let mut parameters = Keyed::default();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = cut(parameter, "=");
        parameters.insert(name.to_owned(), text(value));
    }
    parameters.into_bag()
}

/// A file's path of Windows or Unix, with a scheme before it or an alternate stream after it.
fn parse_path(path: &str) -> Option<Value> {
    let (scheme, path) = path.split_once("://").unwrap_or(("", path));
    let long = ["\\\\?\\", "\\\\.\\"].into_iter().find(|prefix| path.starts_with(prefix));
    let prefix = long.map_or(0, str::len);
    let drive = path.get(prefix..prefix + 2).filter(|drive| {
        drive.ends_with(':') && drive.starts_with(|c: char| c.is_ascii_alphabetic())
    });
    let root_end = match drive {
        Some(_) => {
            let slash = path.get(prefix + 2..).is_some_and(|rest| rest.starts_with(['\\', '/']));
            prefix + 2 + usize::from(slash)
        }
        None => 0,
    };
    let root = path.get(..root_end).unwrap_or_default();
    let after = path.get(root_end..).unwrap_or_default();
    // A colon after the drive's begins the name of a stream.
    let (after, stream) = after.rsplit_once(':').unwrap_or((after, ""));
    let (directory_end, file) = match after.rfind(['\\', '/']) {
        Some(at) => (Some(root_end + at), after.get(at + 1..).unwrap_or_default()),
        None => (None, after),
    };
    let directory = match directory_end {
        Some(end) => path.get(..end).unwrap_or_default(),
        None => root.trim_end_matches(['\\', '/']),
    };
    let name = match directory_end {
        Some(_) => directory.rsplit(['\\', '/']).next().unwrap_or_default(),
        None => "",
    };
    let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
    Some(bag([
        ("Scheme", text(scheme)),
        ("RootPath", text(root)),
        ("DirectoryPath", text(directory)),
        ("DirectoryName", text(name)),
        ("Filename", text(file)),
        ("Extension", text(extension)),
        ("AlternateDataStreamName", text(stream)),
    ]))
}

/// The fields of the first record. See RFC 4180.
fn parse_csv(text: &str) -> Option<Value> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut characters = text.chars().peekable();
    let mut quoted = false;
    let mut begins = true;
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if quoted => quoted = false,
            _ if quoted => field.push(c),
            '"' if begins => quoted = true,
            ',' => {
                fields.push(Value::Text(std::mem::take(&mut field)));
                begins = true;
                continue;
            }
            '\r' | '\n' => break,
            _ => field.push(c),
        }
        begins = false;
    }
    fields.push(Value::Text(field));
    Some(Value::Array(fields))
}

fn bind_command_line(call: &Call<'_>, mut arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 2, 2)?;
    let kind = arguments.pop();
    if kind
        .as_ref()
        .and_then(Expr::as_text)
        .is_none_or(|kind| !kind.eq_ignore_ascii_case("windows"))
    {
        return Err(call.problem("the second argument of `parse_command_line` is \"windows\""));
    }
    let text = arguments.pop().ok_or_else(|| call.problem("an argument is missing"))?;
    let text = coerce(text, Parameter::Text, call.name)?;
    let run = |args: &Args<'_>| {
        each(args, |line| {
            Some(Value::Array(command_line(line).into_iter().map(Value::Text).collect()))
        })
    };
    Ok(kernel_call("parse_command_line", run, vec![text], KqlType::Dynamic, call.span))
}

/// The arguments of a Windows command line: backslashes escape only before a quote.
fn command_line(line: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut argument: Option<String> = None;
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' => {
                let mut count = 1;
                while characters.next_if_eq(&'\\').is_some() {
                    count += 1;
                }
                let text = argument.get_or_insert_default();
                if characters.peek() == Some(&'"') {
                    text.extend(std::iter::repeat_n('\\', count / 2));
                    if count % 2 == 1 {
                        characters.next();
                        text.push('"');
                    }
                } else {
                    text.extend(std::iter::repeat_n('\\', count));
                }
            }
            '"' if quoted && characters.next_if_eq(&'"').is_some() => {
                argument.get_or_insert_default().push('"');
            }
            '"' => {
                quoted = !quoted;
                argument.get_or_insert_default();
            }
            ' ' | '\t' if !quoted => arguments.extend(argument.take()),
            _ => argument.get_or_insert_default().push(c),
        }
    }
    arguments.extend(argument);
    arguments
}

/// Up to four numbers of up to eight digits each, as one number of groups of eight digits.
fn parse_version(version: &str) -> Option<String> {
    let parts: Vec<&str> = version.trim().split('.').collect();
    if parts.len() > 4 {
        return None;
    }
    let mut number = 0_u128;
    for at in 0..4 {
        let part = match parts.get(at) {
            Some(part) => {
                let digits = part.bytes().all(|b| b.is_ascii_digit());
                if !digits || !(1..=8).contains(&part.len()) {
                    return None;
                }
                part.parse().ok()?
            }
            None => 0_u128,
        };
        number = number * 100_000_000 + part;
    }
    Some(number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value as Json, json};

    fn json(value: Option<Value>) -> Json {
        let text = value.expect("a value").to_string();
        serde_json::from_str(&text).expect("JSON")
    }

    #[test]
    fn urls_have_parts() {
        let part = |url: &str, name: &str| json(parse_url(url))[name].clone();
        let url = "https://me:pw@example.com:8443/a/b?x=1&y=&z#top";
        for (name, expect) in [
            ("Scheme", "https"),
            ("Host", "example.com"),
            ("Port", "8443"),
            ("Path", "/a/b"),
            ("Username", "me"),
            ("Password", "pw"),
            ("Fragment", "top"),
        ] {
            assert_eq!(part(url, name), expect, "{name}");
        }
        assert_eq!(part(url, "Query Parameters"), json!({"x": "1", "y": "", "z": ""}));
        assert_eq!(query_parameters("b=1&a=2&b=3").to_string(), r#"{"b":"3","a":"2"}"#);
        assert_eq!(part("http://host", "Host"), "host");
        assert_eq!(part("http://[::1]:80/", "Host"), "::1");
        assert_eq!(part("?a=b", "Query Parameters"), json!({"a": "b"}));
    }

    #[test]
    fn paths_have_parts() {
        let part = |path: &str, name: &str| json(parse_path(path))[name].clone();
        for (path, root, directory, name, file, extension) in [
            ("D:\\a\\b.tar.gz", "D:\\", "D:\\a", "a", "b.tar.gz", "gz"),
            ("/etc/hosts", "", "/etc", "etc", "hosts", ""),
            ("hosts", "", "", "", "hosts", ""),
            ("file://C:/x/y.z", "C:/", "C:/x", "x", "y.z", "z"),
            ("\\\\server\\share\\f.x", "", "\\\\server\\share", "share", "f.x", "x"),
        ] {
            assert_eq!(part(path, "RootPath"), root, "{path}");
            assert_eq!(part(path, "DirectoryPath"), directory, "{path}");
            assert_eq!(part(path, "DirectoryName"), name, "{path}");
            assert_eq!(part(path, "Filename"), file, "{path}");
            assert_eq!(part(path, "Extension"), extension, "{path}");
        }
        assert_eq!(part("a.exe:b.exe", "AlternateDataStreamName"), "b.exe");
    }

    #[test]
    fn records_have_fields() {
        let fields = |text| json(parse_csv(text));
        assert_eq!(fields("a,\"b,\"\"c\"\"\",,d\ne"), json!(["a", "b,\"c\"", "", "d"]));
        assert_eq!(fields(""), json!([""]));
        assert_eq!(fields("a\"b,\"x\ny\""), json!(["a\"b", "x\ny"]));
    }

    #[test]
    fn command_lines_have_arguments() {
        let check = |line: &str, expect: &[&str]| assert_eq!(command_line(line), expect, "{line}");
        check("echo \"hello world\"  x", &["echo", "hello world", "x"]);
        check(r#"a\\b "c\\" d\"e "" "f""g""#, &[r"a\\b", r"c\", "d\"e", "", "f\"g"]);
        check("  ", &[]);
    }

    #[test]
    fn versions_are_numbers() {
        assert_eq!(parse_version("1.2.3.4").as_deref(), Some("1000000020000000300000004"));
        assert_eq!(parse_version("0.1").as_deref(), Some("10000000000000000"));
        for bad in ["", "1..2", "1.2.3.4.5", "123456789", "1.a"] {
            assert_eq!(parse_version(bad), None, "{bad}");
        }
    }
}
