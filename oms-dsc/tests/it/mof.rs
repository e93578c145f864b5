//! The language: what is read, what is refused and where, and that printing loses nothing.

use oms_dsc::mof::{
    Class, DataType, Diagnostic, Document, Feature, Instance, Item, Method, Parameter, Position,
    Pragma, PragmaParameter, Property, PropertyDeclaration, Qualifier, QualifierDeclaration, Value,
    ValueKind, parse,
};
use proptest::prelude::*;

/// Reads a document and what is printed of it, which has to be the same; or why it cannot be read.
pub(crate) fn read_and_print(bytes: &[u8]) -> Result<Document, Vec<Diagnostic>> {
    let document = parse(bytes).into_result()?;
    let printed = document.to_string();
    let again = parse(printed.as_bytes()).into_result().expect(&printed);
    assert_eq!(again.without_positions(), document.clone().without_positions());
    Ok(document)
}

/// The tree of `text` as JSON, or its diagnostics, one a line.
fn check(text: &str, expect: &str) {
    let shown = match read_and_print(text.as_bytes()) {
        Ok(document) => {
            serde_json::to_string(&document.instances().collect::<Vec<_>>()).expect("to JSON")
        }
        Err(diagnostics) => {
            let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
            lines.join("\n")
        }
    };
    assert_eq!(shown, expect, "{text}");
}

/// One property's value.
fn check_value(value: &str, expect: &str) {
    check(
        &format!("instance of A {{ P = {value}; }};"),
        &format!(r#"[{{"class":"A","properties":{{"P":{expect}}}}}]"#),
    );
}

/// What is wrong with one property's value, which begins at column 21.
fn check_wrong(value: &str, expect: &str) {
    check(&format!("instance of A {{ P = {value}; }};"), expect);
}

#[test]
fn literals() {
    check_value("1", "1");
    check_value("-9223372036854775808", "-9223372036854775808");
    check_value("18446744073709551615", "18446744073709551615");
    check_value("+7", "7");
    check_value("0x1Fb", "507");
    check_value("-0X10", "-16");
    check_value("017", "15");
    check_value("1010b", "10");
    check_value("0", "0");
    check_value("1.5", "1.5");
    check_value(".5E-3", "0.0005");
    check_value("-1.0e300", "-1e+300");
    check_value("1E+20", "1e+20");
    check_value("-25e-1", "-2.5");
    check_value("TRUE", "true");
    check_value("False", "false");
    check_value("Null", "null");
    check_value("'a'", r#"{"char":"a"}"#);
    check_value(r"'\x41'", r#"{"char":"A"}"#);
    check_value(r"'\''", r#"{"char":"'"}"#);
    check_value(r#""""#, r#""""#);
    check_value(
        r#""a" "b" // c
        "c""#,
        r#""abc""#,
    );
    check_value(r#""\b\t\n\f\r\"\'\\\x41\X0042x""#, r#""\b\t\n\f\r\"'\\ABx""#);
    check_value(r#""\xD83D\xDE00 ünï""#, r#""😀 ünï""#);
    check_value("\"two\nlines\"", r#""two\nlines""#);
    check_value("{}", "[]");
    check_value(r#"{"a",1,TRUE, NULL}"#, r#"["a",1,true,null]"#);
    check_value("instance of B { Q = 1; }", r#"{"class":"B","properties":{"Q":1}}"#);
    check_value(
        "{instance of B {}, instance of C {}}",
        r#"[{"class":"B","properties":{}},{"class":"C","properties":{}}]"#,
    );
}

#[test]
fn instances() {
    check("", "[]");
    check("/* c */ // d\r\n#pragma locale (\"en_US\")\r\n", "[]");
    check(
        "Instance OF A as $a { };\r\rinstance of B { R = $A; Rs = {$a, $a}; };",
        r#"[{"class":"A","alias":"$a","properties":{}},{"class":"B","properties":{"R":{"alias":"$A"},"Rs":[{"alias":"$a"},{"alias":"$a"}]}}]"#,
    );
    // An alias may be used before it is given.
    check(
        "instance of B { R = $a; }; instance of A as $a { };",
        r#"[{"class":"B","properties":{"R":{"alias":"$a"}}},{"class":"A","alias":"$a","properties":{}}]"#,
    );
    check(
        "[Description(\"d\")] instance of A {};",
        r#"[{"qualifiers":[{"name":"Description","value":"d","flavor":[]}],"class":"A","properties":{}}]"#,
    );
}

#[test]
fn qualifiers_stand_before_properties_of_instances() {
    check(
        "instance of A { [Key, Description(\"d\")] P = 1; Q = 2; };",
        r#"[{"class":"A","properties":{"P":1,"Q":2},"propertyQualifiers":{"P":[{"name":"Key","value":null,"flavor":[]},{"name":"Description","value":"d","flavor":[]}]}}]"#,
    );
}

#[test]
fn names_have_every_character_that_the_standard_gives_them() {
    let text = "instance of Größe_2 as $é { 値 = 1; µ™ = $é; };";
    let document = parse(text.as_bytes()).into_result().expect("names");
    let instance = document.instances().next().expect("one");
    assert_eq!((instance.class.as_str(), instance.alias.as_deref()), ("Größe_2", Some("$é")));
    assert_eq!(instance.properties[1].name, "µ™");
    // No-break space is white space, and what lies beyond the plane is no name.
    check("instance of\u{a0}A { };", r#"[{"class":"A","properties":{}}]"#);
    check(
        "instance of A { 😀 = 1; };",
        "1:17: the character `😀` is not expected here\n1:19: the name of a property or `}` is expected, not `=`",
    );
}

#[test]
fn pragmas() {
    let text = "#pragma namespace(\"\\\\\\\\.\\\\root\")\n#pragma autorecover\n\
                #pragma deleteclass(\"A\", NOFAIL)\n#PRAGMA locale (en_US);\n#pragma none ()\n\
                instance of A { };";
    let document = parse(text.as_bytes()).into_result().expect("pragmas");
    assert_eq!(
        document.to_string(),
        "#pragma namespace (\"\\\\\\\\.\\\\root\")\n#pragma autorecover\n\
         #pragma deleteclass (\"A\", NOFAIL)\n#pragma locale (en_US)\n#pragma none\n\
         instance of A\n{\n};\n"
    );
    let again = parse(document.to_string().as_bytes()).into_result().expect("pragmas");
    assert_eq!(again.without_positions(), document.clone().without_positions());
    let texts: Vec<Option<&str>> = document
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Pragma(pragma) => Some(pragma.text()),
            _ => None,
        })
        .collect();
    assert_eq!(texts, [Some("\\\\.\\root"), None, Some("A"), Some("en_US"), None]);
}

#[test]
fn classes() {
    let text = r#"
        Qualifier Key : boolean = false, Scope(property, reference), Flavor(DisableOverride);
        [ClassVersion("1.0.0"), Abstract, Values{"a", "b"} : ToSubclass Translatable]
        class A as $A : B {
          [Key] string Name;
          [Write, ValueMap{"1"}] uint32 Counts[];
          sint8 Five[5] = {1, 2, 3, 4, 5};
          B ref Other = NULL;
          boolean Is = TRUE;
          [Static] uint32 Do([In] string What, [Out] B ref Results[]);
          datetime When();
        };"#;
    let document = parse(text.as_bytes()).into_result().expect("a class");
    assert_eq!(
        document.to_string(),
        "Qualifier Key : boolean = False, Scope(property, reference), Flavor(DisableOverride);\n\
         [ClassVersion(\"1.0.0\"), Abstract, Values {\"a\", \"b\"} : ToSubclass Translatable]\n\
         class A as $A : B\n{\n  [Key] string Name;\n  [Write, ValueMap {\"1\"}] uint32 Counts[];\n  \
         sint8 Five[5] = {1, 2, 3, 4, 5};\n  B ref Other = NULL;\n  boolean Is = True;\n  \
         [Static] uint32 Do([In] string What, [Out] B ref Results[]);\n  datetime When();\n};\n"
    );
    let again = parse(document.to_string().as_bytes()).into_result().expect("a class");
    assert_eq!(again.without_positions(), document.without_positions());
}

#[test]
fn diagnostics_say_where() {
    check_wrong("08", "1:21: `08` is not a number: a number that starts with 0 has octal digits");
    check_wrong(
        "12b",
        "1:21: `12b` is not a number: a binary number has the digits 0 and 1 before `b`",
    );
    check_wrong("0x", "1:21: `0x` is not a number: hexadecimal digits follow `0x`");
    check_wrong("1.", "1:21: `1.` is not a number: digits are missing beside the point");
    check_wrong("1.0e", "1:21: `1.0e` is not a number: digits are missing in the exponent");
    check_wrong(
        "1.0e999",
        "1:21: `1.0e999` is not a number: it is too large for a 64-bit real number",
    );
    check_wrong(
        "18446744073709551616",
        "1:21: `18446744073709551616` is not a number: it is outside of the 64-bit integers",
    );
    check_wrong(
        "''",
        "1:21: a character literal holds one character between `'`\n1:23: a value is expected, not `;`",
    );
    check_wrong(r#""a\qb""#, r"1:23: `\q` is not an escape sequence");
    check_wrong(r#""\xZ""#, r"1:22: `\x` needs one to four hexadecimal digits");
    check_wrong(r#""\xD83D""#, r"1:22: `\xD83D` is half of a UTF-16 pair");
    check_wrong("$b", "1:21: no instance has the alias `$b`");
    check_wrong("{{1}}", "1:22: an array cannot hold an array");
    check_wrong("{1,}", "1:24: a value is expected, not `}`");
    check_wrong("{1 2}", "1:24: `,` or `}` is expected, not the number 2");
    check_wrong("enum", "1:21: a value is expected, not `enum`");
    check(
        "instance of A { P = \"x",
        "1:1: the instance is not closed with `}`\n1:21: the string is not closed with `\"`\n1:23: `;` is expected, not the end of the document",
    );
    check("instance of A { P 1; };", "1:19: `=` is expected, not the number 1");
    check("instance of A { P = 1; p = 2; };", "1:24: the property `p` was given at 1:17 already");
    check("instance of A { } instance of B {};", "1:19: `;` is expected, not `instance`");
    check("/* open", "1:1: the comment is not closed with `*/`");
    check("#include", "1:1: `#include` is not a directive; only `#pragma` is");
    check(
        "instance of A as $a {};\ninstance of A as $A {};",
        "2:18: the alias `$A` was given at 1:18 already",
    );
    check("#pragma 1", "1:9: the name of a pragma is expected, not the number 1");
    check("#pragma a (1)", "1:12: a string or a word is expected, not the number 1");
    check("#pragma a (\"b\" c)", "1:16: `)` is expected, not `c`");
    check("x = 1;", "1:1: `instance`, `class`, `qualifier` or `#pragma` is expected, not `x`");
    // Lines end with LF, CR LF or CR; columns count characters.
    check("\n\r\n\r/* ü */ ?", "4:9: the character `?` is not expected here");
}

#[test]
fn one_error_does_not_hide_the_next() {
    let text = "instance of A { P = ; Q = 1; R = ?; };\n\
                instance of B { S = \"a\";\n\
                instance of C { T = 1; };\n\
                class D { string; uint8 U; };\n\
                instance of E { V = 08; };";
    let parsed = parse(text.as_bytes());
    let shown: Vec<String> = parsed.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "1:21: a value is expected, not `;`",
            "1:34: the character `?` is not expected here",
            "1:35: a value is expected, not `;`",
            "3:1: the instance before this one is not closed with `}`",
            "4:17: the name of a property or method is expected, not `;`",
            "5:21: `08` is not a number: a number that starts with 0 has octal digits",
        ]
    );
    let classes: Vec<&str> = parsed.document.instances().map(|i| i.class.as_str()).collect();
    assert_eq!(classes, ["A", "C", "E"]);
}

#[test]
fn encodings() {
    let text = "instance of A { P = \"ü\"; };";
    let expected = parse(text.as_bytes());
    let utf16 = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let (little, big) = (utf16(u16::to_le_bytes), utf16(u16::to_be_bytes));
    for bytes in [
        [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        [&b"\xff\xfe"[..], &little].concat(),
        [&b"\xfe\xff"[..], &big].concat(),
        little.clone(),
        big,
    ] {
        assert_eq!(parse(&bytes), expected);
    }
    let check = |bytes: &[u8], expect: &str| {
        assert_eq!(parse(bytes).diagnostics[0].to_string(), expect);
    };
    check(b"/* a */\n \xff", "2:2: the byte 0xFF is not UTF-8 here");
    let odd = &little[..little.len() - 1];
    check(odd, "1:27: the document ends in the middle of a UTF-16 unit");
    check(
        b"\xff\xfe;\x00\x00\xd8b\x00",
        "1:1: `instance`, `class`, `qualifier` or `#pragma` is expected, not `;`",
    );
    let half = parse(b"\xff\xfe;\x00\x00\xd8b\x00").diagnostics;
    assert_eq!(half[1].to_string(), "1:2: the UTF-16 unit 0xD800 is half of a pair");
}

#[test]
fn bytes_of_another_encoding_are_told_each_and_mean_nothing_in_a_comment() {
    let text = b"// \xa9 1999\n/* \xe9\xff */ instance of A { P = \"caf\xe9\"; Q = \"\xef\xbf\xbd\"; };\n\xfe";
    let shown: Vec<String> = parse(text).diagnostics.iter().map(ToString::to_string).collect();
    // U+FFFD that the text itself has is text.
    assert_eq!(
        shown,
        ["2:34: the byte 0xE9 is not UTF-8 here", "3:1: the byte 0xFE is not UTF-8 here"]
    );
    assert!(parse(b"// \xa9\ninstance of A { };").diagnostics.is_empty());
    let none = parse(&[0xff; 20_000]).diagnostics;
    assert_eq!(
        none[0].to_string(),
        "1:10002: the byte 0xFF is not UTF-8 here, and there is more that is not"
    );
    let mut comment = b"//".to_vec();
    comment.extend_from_slice(&[0xff; 20_000]);
    assert_eq!(parse(&comment).diagnostics.len(), 1);
}

#[test]
fn the_number_of_values_is_bounded() {
    let many =
        format!("instance of A {{ P = {{1{}}}; }}; ?", ",1".repeat(oms_dsc::mof::VALUES_MAX));
    let diagnostics = parse(many.as_bytes()).diagnostics;
    let told = |d: &Diagnostic| d.message == "there are more than 2000000 values";
    assert!(diagnostics.iter().any(told), "{diagnostics:?}");
}

#[test]
fn a_long_number_is_read_in_one_pass() {
    let document = format!("instance of A {{ B = {}; }};", "1".repeat(4 << 20));
    let diagnostics = parse(document.as_bytes()).diagnostics;
    assert!(diagnostics[0].message.contains("outside of the 64-bit integers"), "{diagnostics:?}");
}

#[test]
fn depth_and_number_of_diagnostics_are_bounded() {
    let deep = "instance of A { P = ".repeat(50);
    assert!(parse(deep.as_bytes()).diagnostics.iter().any(|d| d.message.contains("deep")));
    let wrong = "?".repeat(100_000);
    assert_eq!(parse(wrong.as_bytes()).diagnostics.len(), oms_dsc::mof::DIAGNOSTICS_MAX);
    let open = "{".repeat(100_000);
    assert!(!parse(open.as_bytes()).diagnostics.is_empty());
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z_][A-Za-z0-9_]{0,8}".prop_filter("words of the grammar", |name| {
        !["ref", "instance", "class", "qualifier", "of", "as", "null", "true", "false", "pragma"]
            .contains(&name.to_lowercase().as_str())
    })
}

fn value(depth: u32) -> BoxedStrategy<Value> {
    let scalar = prop_oneof![
        Just(ValueKind::Null),
        any::<bool>().prop_map(ValueKind::Boolean),
        any::<i64>().prop_map(|number| ValueKind::Integer(number.into())),
        any::<u64>().prop_map(|number| ValueKind::Integer(number.into())),
        any::<f64>().prop_filter("finite", |real| real.is_finite()).prop_map(ValueKind::Real),
        any::<char>().prop_filter("short", |c| *c as u32 <= 0xffff).prop_map(ValueKind::Char),
        any::<String>().prop_map(ValueKind::Text),
        Just(ValueKind::Alias("$known".to_owned())),
    ];
    let kind = if depth == 0 {
        scalar.boxed()
    } else {
        let element = value(depth - 1)
            .prop_filter("no array in an array", |v| !matches!(v.kind, ValueKind::Array(_)));
        prop_oneof![
            4 => scalar,
            1 => proptest::collection::vec(element, 0..4).prop_map(ValueKind::Array),
            1 => instance(depth - 1, None).prop_map(|i| ValueKind::Instance(Box::new(i))),
        ]
        .boxed()
    };
    kind.prop_map(|kind| Value { kind, position: Position::default() }).boxed()
}

fn instance(depth: u32, alias: Option<&'static str>) -> BoxedStrategy<Instance> {
    let marks = proptest::collection::vec(name(), 0..2);
    let properties = proptest::collection::btree_map(name(), (marks, value(depth)), 0..4);
    (name(), properties)
        .prop_map(move |(class, properties)| {
            let mut kept: Vec<Property> = Vec::new();
            for (name, (marks, value)) in properties {
                if !kept.iter().any(|property| property.name.eq_ignore_ascii_case(&name)) {
                    let position = Position::default();
                    let qualifiers = marks.into_iter().map(|name| Qualifier {
                        name,
                        value: None,
                        flavor: Vec::new(),
                        position,
                    });
                    let qualifiers = qualifiers.collect();
                    kept.push(Property { qualifiers, name, value, position });
                }
            }
            let alias = alias.map(str::to_owned);
            let position = Position::default();
            Instance { qualifiers: Vec::new(), class, alias, properties: kept, position }
        })
        .boxed()
}

fn qualifiers() -> impl Strategy<Value = Vec<Qualifier>> {
    let flavor = proptest::collection::vec(name(), 0..3);
    let one = (name(), proptest::option::of(value(1)), flavor).prop_map(|(name, value, flavor)| {
        Qualifier { name, value, flavor, position: Position::default() }
    });
    proptest::collection::vec(one, 0..3)
}

fn data_type() -> impl Strategy<Value = DataType> {
    let array = proptest::option::of(proptest::option::of(any::<u64>()));
    (name(), any::<bool>(), array).prop_map(|(name, is_reference, array)| DataType {
        name,
        is_reference,
        is_array: array.is_some(),
        array_len: array.flatten(),
    })
}

fn feature() -> impl Strategy<Value = Feature> {
    let position = Position::default();
    let property = (qualifiers(), data_type(), name(), proptest::option::of(value(1))).prop_map(
        move |(qualifiers, data_type, name, default)| {
            let property = PropertyDeclaration { qualifiers, data_type, name, default, position };
            Feature::Property(property)
        },
    );
    let parameter = (qualifiers(), data_type(), name())
        .prop_map(|(qualifiers, data_type, name)| Parameter { qualifiers, data_type, name });
    let parameters = proptest::collection::vec(parameter, 0..3);
    let method = (qualifiers(), data_type(), name(), parameters).prop_map(
        move |(qualifiers, returned, name, parameters)| {
            let data_type = DataType { is_array: false, array_len: None, ..returned };
            Feature::Method(Method { qualifiers, data_type, name, parameters, position })
        },
    );
    prop_oneof![property, method]
}

fn item() -> impl Strategy<Value = Item> {
    let position = Position::default();
    let parameter = prop_oneof![
        any::<String>().prop_map(PragmaParameter::Text),
        name().prop_map(PragmaParameter::Word),
    ];
    let pragma = (name(), proptest::collection::vec(parameter, 0..3))
        .prop_map(move |(name, parameters)| Item::Pragma(Pragma { name, parameters, position }));
    let names = || proptest::collection::vec(name(), 0..3);
    let declaration = (name(), data_type(), proptest::option::of(value(1)), names(), names())
        .prop_map(move |(name, data_type, default, scope, flavor)| {
            let declaration =
                QualifierDeclaration { name, data_type, default, scope, flavor, position };
            Item::Qualifier(declaration)
        });
    let features = proptest::collection::vec(feature(), 0..4);
    let class = (qualifiers(), name(), proptest::option::of(name()), features).prop_map(
        move |(qualifiers, name, superclass, features)| {
            Item::Class(Class { qualifiers, name, alias: None, superclass, features, position })
        },
    );
    prop_oneof![pragma, declaration, class, instance(2, None).prop_map(Item::Instance)]
}

fn document() -> impl Strategy<Value = Document> {
    (proptest::collection::vec(item(), 0..5), instance(1, Some("$known"))).prop_map(
        |(mut items, known)| {
            items.push(Item::Instance(known));
            Document { items }
        },
    )
}

proptest! {
    #[test]
    fn printed_documents_read_back_the_same(document in document()) {
        let printed = document.to_string();
        let parsed = parse(printed.as_bytes());
        prop_assert!(parsed.diagnostics.is_empty(), "{:?}\n{printed}", parsed.diagnostics);
        prop_assert_eq!(parsed.document.without_positions(), document);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_tokens_are_read_or_refused(
        words in proptest::collection::vec(
            prop_oneof![
                Just("instance"), Just("of"), Just("class"), Just("A"), Just("as"), Just("$a"),
                Just("{"), Just("}"), Just("["), Just("]"), Just("("), Just(")"), Just(";"),
                Just(","), Just("="), Just(":"), Just("\"s\""), Just("1"), Just("'c'"),
                Just("#pragma"), Just("qualifier"), Just("ref"), Just("NULL"), Just("\n"),
            ],
            0..80,
        ),
    ) {
        let text = words.join(" ");
        let parsed = parse(text.as_bytes());
        for diagnostic in &parsed.diagnostics {
            prop_assert!(diagnostic.position.line >= 1 && diagnostic.position.column >= 1);
        }
        if parsed.diagnostics.is_empty() {
            let again = parse(parsed.document.to_string().as_bytes());
            prop_assert!(again.diagnostics.is_empty(), "{:?}", again.diagnostics);
        }
    }
}
