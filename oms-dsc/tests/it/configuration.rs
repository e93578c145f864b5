//! Configurations: what is read and what no node could apply.

use crate::mof::read_and_print;
use oms_dsc::configuration::{CHANGES_BYTES_MAX, Configuration, PropertyValue, ResourceChange};

const ABOUT: &str = "instance of OMI_ConfigurationDocument { Version = \"2.0.0\"; };";

/// The diagnostics of `text`, with the document's own instance in front, on line 1.
fn check(text: &str, expect: &[&str]) {
    let whole = format!("{ABOUT}\n{text}");
    let shown = match Configuration::parse("test", whole.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(oms_dsc::Error::Document { diagnostics, .. }) => {
            diagnostics.iter().map(ToString::to_string).collect()
        }
        Err(other) => panic!("{other}"),
    };
    assert_eq!(shown, expect, "{text}");
}

#[test]
fn what_no_node_could_apply_is_refused_with_its_place() {
    check("instance of T { ResourceID = \"[T]a\"; };", &[]);
    check(
        "instance of T { ResourceID = \"[T]a\"; };\ninstance of T { ResourceId = \"[t]A\"; };",
        &["3:1: the resource id `[t]A` was given at 2:1 already"],
    );
    check(
        "instance of T { ResourceID = \"[T]a\"; DependsOn = {\"[T]b\"}; };",
        &["2:51: no resource has the id `[T]b` that is depended on"],
    );
    check(
        "instance of T { ResourceID = \"a\"; DependsOn = {\"b\"}; };\n\
         instance of T { ResourceID = \"b\"; DependsOn = {\"c\"}; };\n\
         instance of T { ResourceID = \"c\"; DependsOn = {\"A\"}; };",
        &["2:48: the dependencies form a cycle: a -> b -> c -> a"],
    );
    check(
        "instance of T { ResourceID = \"a\"; DependsOn = \"a\"; };",
        &["2:47: the dependencies form a cycle: a -> a"],
    );
    check(
        "instance of T { ResourceID = \"a\"; DependsOn = {1}; };",
        &["2:48: `DependsOn` holds an integer, not strings"],
    );
    check(
        "instance of T { ResourceID = 5; };",
        &[
            "2:1: the resource has an empty ResourceID",
            "2:30: `ResourceID` is an integer, not a string",
        ],
    );
    check(
        "instance of T { Name = \"a\"; };",
        &["2:1: the instance of `T` has no ResourceID and no reference to it"],
    );
    check(
        "instance of A as $a { B = $a; };\ninstance of T { ResourceID = \"t\"; A = $a; };",
        &["2:27: the reference `$a` refers to itself"],
    );
    check(ABOUT, &["2:1: a second OMI_ConfigurationDocument; the first is at 1:1"]);
    check("#pragma include (\"x.mof\")", &["2:1: `#pragma include (\"x.mof\")` is not supported"]);
    check(
        "instance of MSFT_DSCMetaConfiguration {};",
        &["2:1: this is a metaconfiguration, not a configuration"],
    );
}

#[test]
fn two_resources_of_one_path_that_differ_are_refused_with_both_places() {
    let file = |id: &str, class: &str, path: &str, more: &str| {
        format!(
            "instance of {class} {{ ResourceID = \"[File]{id}\"; DestinationPath = \"{path}\"; {more} }};"
        )
    };
    let class = "MSFT_FileDirectoryConfiguration";
    let pair = |one: &str, other: &str, more: &str| {
        let other = file("b", "msft_filedirectoryconfiguration", other, more);
        format!("{}\n{other}", file("a", class, one, "Ensure = \"Present\";"))
    };
    let refused = |property: &str| {
        let what = format!("have the same DestinationPath and differ in `{property}`");
        format!("3:1: `[File]b` and `[File]a` at 2:1 {what}")
    };
    check(&pair("/etc/motd", "/etc/motd/", "Ensure = \"Absent\";"), &[&refused("Ensure")]);
    check(&pair("/etc/motd", "/etc/motd", "Contents = \"x\";"), &[&refused("Contents")]);
    check(&pair("C:\\\\x", "c:\\\\X", "Ensure = \"Absent\";"), &[&refused("Ensure")]);
    // The same wish twice, as parts that are put together have it; and two files.
    check(&pair("/etc/motd", "/etc/motd", "Ensure = \"Present\"; DependsOn = {\"[File]a\"};"), &[]);
    check(&pair("/etc/motd", "/etc/Motd", "Ensure = \"Absent\";"), &[]);
    // NULL is no wish.
    check(&pair("/etc/motd", "/etc/motd", "Ensure = \"Present\"; Contents = NULL;"), &[]);
    // Of classes whose key is not known nothing is said.
    let other = file("c", "MSFT_Unknown", "/etc/motd", "Ensure = \"Absent\";");
    check(&format!("{}\n{other}", file("a", class, "/etc/motd", "")), &[]);
}

#[test]
fn documents_of_newer_versions_are_refused() {
    let text = "instance of OMI_ConfigurationDocument { MinimumCompatibleVersion = \"3.0.0\"; };";
    let error = Configuration::parse("test", text.as_bytes()).expect_err("too new");
    assert_eq!(
        error.to_string(),
        "document is not valid. document=`test`, problems=`1:68: the document needs version \
         3.0.0, and 2.0.0 is the newest known`"
    );
    let error = Configuration::parse("test", b"").expect_err("empty");
    assert!(error.to_string().contains("1:1: there is no instance of OMI_ConfigurationDocument"));
}

#[test]
fn references_are_replaced_by_what_they_name() {
    let text = format!(
        "{ABOUT} instance of MSFT_Credential as $c {{ UserName = \"u\"; }};
         instance of T {{ ResourceID = \"[T]a::[S]b\"; Credentials = {{$c, $c}}; }};"
    );
    let configuration = Configuration::parse("test", text.as_bytes()).expect("valid");
    let resource = &configuration.resources[0];
    assert_eq!((resource.type_name(), resource.instance_name()), ("T", "a::[S]b"));
    let Some(PropertyValue::Array(values)) = resource.property("credentials") else {
        panic!("{:?}", resource.properties)
    };
    let PropertyValue::Instance(credential) = &values[1] else { panic!("{values:?}") };
    assert_eq!(credential.properties["UserName"], PropertyValue::Text("u".into()));
}

#[test]
fn many_references_to_references_stay_small() {
    let mut text = format!("{ABOUT} instance of L as $l0 {{ }};");
    for level in 1..25 {
        let below = level - 1;
        text += &format!("instance of L as $l{level} {{ A = {{$l{below}, $l{below}}}; }};");
    }
    text += "instance of T { ResourceID = \"[T]a\"; L = $l24; };";
    // Copied out, this would be a tree of 2^24 instances.
    assert!(Configuration::parse("test", text.as_bytes()).is_ok());
}

/// As parts that are put together have them, each with its own instance of the credential.
#[test]
fn what_two_resources_of_one_path_refer_to_is_compared_by_what_it_is() {
    let credential = |alias: &str, password: &str| {
        format!(
            "instance of MSFT_Credential as {alias} {{ UserName = \"u\"; Password = \"{password}\"; }};\n"
        )
    };
    let file = |id: &str, alias: &str| {
        format!(
            "instance of MSFT_FileDirectoryConfiguration {{ ResourceID = \"[File]{id}\"; \
             DestinationPath = \"C:\\\\x\"; Credential = {alias}; }};\n"
        )
    };
    let pair = |password: &str| {
        credential("$a", "p") + &credential("$b", password) + &file("a", "$a") + &file("b", "$b")
    };
    check(&pair("p"), &[]);
    check(
        &pair("q"),
        &[
            "5:1: `[File]b` and `[File]a` at 4:1 have the same DestinationPath and differ in `Credential`",
        ],
    );
    // Copied out, each would be a tree of 2^24 instances.
    let tree = |name: &str| {
        let mut text = format!("instance of L as ${name}0 {{ }};\n");
        for level in 1..25 {
            let below = format!("${name}{}", level - 1);
            text += &format!("instance of L as ${name}{level} {{ A = {{{below}, {below}}}; }};\n");
        }
        text
    };
    check(&(tree("a") + &tree("b") + &file("a", "$a24") + &file("b", "$b24")), &[]);
}

#[test]
fn changes_from_one_configuration_to_another() {
    let parse = |text: &str| {
        Configuration::parse("test", format!("{ABOUT}\n{text}").as_bytes()).expect("valid")
    };
    let older = parse(
        "instance of MSFT_Credential as $c { UserName = \"u\"; Password = \"one\"; };
         instance of T { ResourceID = \"[T]a\"; Size = 1; Tags = {\"x\"}; SourceInfo = \"s\"; };
         instance of T { ResourceID = \"[T]b\"; Size = 1; Owner = $c; };
         instance of T { ResourceID = \"[T]c\"; };",
    );
    let newer = parse(
        "instance of MSFT_Credential as $c { UserName = \"u\"; Password = \"two\"; };
         instance of T { ResourceID = \"[T]d\"; Size = 1; };
         instance of T { ResourceID = \"[t]A\"; Size = 2; Mode = \"m\"; DependsOn = {\"[T]d\"}; };
         instance of T { ResourceID = \"[T]b\"; Size = 1; Owner = $c; SourceInfo = \"other\"; };",
    );
    let changes = older.changes_to(&newer);
    let shown: Vec<String> = changes.resources.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "~ [t]A\n    DependsOn: [T]d\n    Mode: \"m\"\n    Size: 1 -> 2\n    \
             Tags: {\"x\"} -> (none)",
            // That the password changed is told, and neither of them.
            "~ [T]b\n    Owner: MSFT_Credential { Password = ***; UserName = \"u\" } -> \
             MSFT_Credential { Password = ***; UserName = \"u\" }",
            "- [T]c",
            "+ [T]d\n    (class): T\n    Size: 1",
        ]
    );
    assert!(changes.omitted == 0 && !changes.is_empty());
    assert!(older.changes_to(&older).is_empty());
}

/// As `PullServer::diff` shows them: the changes are no larger than the documents by much.
#[test]
fn changes_of_many_references_to_references_stay_small() {
    let parse = |last: &str| {
        let mut text = format!("{ABOUT} instance of L as $l0 {{ A = {last}; }};");
        for level in 1..25 {
            let below = level - 1;
            text += &format!("instance of L as $l{level} {{ A = {{$l{below}, $l{below}}}; }};");
        }
        text += "instance of T { ResourceID = \"[T]a\"; L = $l24; };";
        Configuration::parse("test", text.as_bytes()).expect("valid")
    };
    let (older, newer) = (parse("1"), parse("2"));
    assert!(older.changes_to(&parse("1")).is_empty());
    let changes = older.changes_to(&newer).resources;
    let [change] = &changes[0].properties[..] else { panic!("{} changes", changes.len()) };
    let shown = [&change.before, &change.after].map(|shown| shown.as_deref().unwrap_or_default());
    for (shown, last) in shown.into_iter().zip(["A = 1", "A = 2"]) {
        assert!(shown.len() < 70_000 && shown.ends_with('…') && shown.contains(last));
    }
}

/// Each of many resources refers to what is large and differs at its very end.
#[test]
fn changes_that_would_be_very_many_are_counted_and_not_told() {
    let parse = |last: &str| {
        let mut text = format!("{ABOUT} instance of L as $l0 {{ A = {{");
        for item in 0..20_000 {
            text += &format!("\"item {item}\", ");
        }
        text += &format!("{last}}}; }};");
        for resource in 0..5_000 {
            text += &format!("instance of T {{ ResourceID = \"[T]{resource}\"; L = $l0; }};");
        }
        Configuration::parse("test", text.as_bytes()).expect("valid")
    };
    let (older, newer) = (parse("\"x\""), parse("\"y\""));
    // The one pair of instances is compared once: five thousand times would be past the bound of the work.
    assert!(older.changes_to(&parse("\"x\"")).is_empty());
    let changes = older.changes_to(&newer);
    assert_eq!(changes.resources.len() + changes.omitted, 5_000);
    let shown = |change: &ResourceChange| {
        let told = &change.properties[0];
        told.before.as_ref().map_or(0, String::len) + told.after.as_ref().map_or(0, String::len)
    };
    let told: usize = changes.resources.iter().map(shown).sum();
    assert!((CHANGES_BYTES_MAX..CHANGES_BYTES_MAX + (1 << 18)).contains(&told), "{told}");
}

/// A document in the form that PowerShell writes: UTF-16 with a mark, a comment at its head, line
/// ends of three characters, a named value, and the properties of the document itself.
#[test]
fn a_document_as_powershell_writes_it_is_a_configuration() {
    let bytes = include_bytes!("../fixtures/mof/web.mof");
    assert!(bytes.starts_with(b"\xff\xfe/\0*\0\r\0\n\0@\0T\0"), "it is in UTF-16, and marked");
    let read = read_and_print(bytes).expect("a document");
    let configuration = Configuration::parse("web.mof", bytes).expect("a configuration");
    assert_eq!(Configuration::from_document(&read).expect("the same"), configuration);

    let about = &configuration.document;
    let texts = [&about.minimum_compatible_version, &about.name, &about.author];
    let texts = texts.into_iter().chain([&about.generation_date, &about.generation_host]);
    let texts: Vec<&str> = texts.map(|text| text.as_deref().expect("it is given")).collect();
    assert_eq!(texts, ["1.0.0", "Web", "Zoë Example", "03/09/2026 09:00:00", "AUTHOR-01"]);
    assert_eq!((&*about.version, &about.content_type), ("2.0.0", &None));

    let [motd, cron, shop] = &configuration.resources[..] else { panic!("{configuration:?}") };
    let contents = PropertyValue::Text("Grüße von \"web\"\n\tund 漢字\n".into());
    assert_eq!(motd.property("Contents"), Some(&contents));
    assert_eq!(motd.property("Force"), Some(&PropertyValue::Boolean(false)));
    assert_eq!(motd.source_info.as_deref(), Some("C:\\dsc\\Web.ps1::12::9::nxFile"));
    assert_eq!(
        (&cron.depends_on[..], &cron.dependencies[..]),
        (&["[nxFile]Motd".into()][..], &[0][..])
    );
    assert_eq!(
        (shop.resource_id.as_str(), &shop.dependencies[..]),
        ("[WebApplication]Shop", &[0, 1][..])
    );
    assert_eq!(shop.property("Port"), Some(&PropertyValue::Integer(8443)));
    let module = (shop.module_name.as_deref(), shop.module_version.as_deref());
    assert_eq!(module, (Some("ShopDsc"), Some("2.3.1")));
    let Some(PropertyValue::Array(settings)) = shop.property("Settings") else {
        panic!("{shop:?}")
    };
    let [PropertyValue::Instance(setting)] = &settings[..] else { panic!("{settings:?}") };
    assert_eq!(setting.class, "MSFT_KeyValuePair");
    assert_eq!(setting.properties["Value"], PropertyValue::Text("D:\\logs\\web".into()));
}
