//! Documents against the schemas of their classes: what is wrong, and where.

use oms_dsc::configuration::{CheckOptions, Schemas};
use oms_dsc::mof;
use oms_dsc::resource::Registry;

const CLASSES: &str = r#"
    [ClassVersion("1.0.0"), FriendlyName("Site")]
    class Test_Site : OMI_BaseResource {
      [Key] string Name;
      [Key] uint16 Port;
      [Required] string Root;
      [Write, ValueMap{"Present", "Absent"}] string Ensure;
      [Write] sint8 Offset;
      [Write] boolean Secure;
      [Write] real64 Weight;
      [Write] datetime Since;
      [Write] string Hosts[];
      [Write, EmbeddedInstance("MSFT_Credential")] string Owner;
      [Write, EmbeddedInstance("MSFT_KeyValuePair")] string Headers[];
      [Read] string State;
    };"#;

fn schemas() -> Schemas {
    Schemas::standard().expect("right").with("test.mof", CLASSES.as_bytes()).expect("right")
}

/// What is wrong with `text`, one a line.
fn check(text: &str, expect: &[&str]) {
    let document = mof::parse(text.as_bytes()).into_result().expect("it parses");
    let found = schemas().check(&document, CheckOptions { refuses_unknown_classes: true });
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(shown, expect, "{text}");
}

/// What is wrong with one property, which begins at 1:75, in a site that is right otherwise.
fn check_property(text: &str, expect: &[&str]) {
    let site = r#"instance of Test_Site { ResourceID = "[Site]a"; Name = "a"; Port = 80;"#;
    check(&format!("{site}    {text}; Root = \"/\"; }};"), expect);
}

#[test]
fn properties() {
    check_property("Ensure = \"present\"", &[]);
    check_property(
        "Esnure = \"Present\"",
        &["1:75: `Test_Site` has no property `Esnure`; did you mean `Ensure`?"],
    );
    check_property("Colour = 1", &["1:75: `Test_Site` has no property `Colour`"]);
    check_property("State = \"up\"", &["1:75: `State` can be read only, and is no wish"]);
    check_property("State = NULL", &[]);
    // What every resource has.
    check_property("DependsOn = {\"[Site]b\"}; ModuleName = \"m\"; SourceInfo = \"s\"", &[]);
    check_property("DependsOn = 5", &["1:87: `DependsOn` is a string, not 5"]);
}

#[test]
fn types() {
    check_property("Secure = True", &[]);
    check_property("Secure = \"True\"", &["1:84: `Secure` is a boolean, not a string"]);
    check_property("Offset = -128", &[]);
    check_property("Offset = 128", &["1:84: `Offset` is an integer of -128 to 127, not 128"]);
    check_property(
        "Offset = 1.0",
        &["1:84: `Offset` is an integer of -128 to 127, not a real number"],
    );
    check_property("Weight = 3", &[]);
    check_property("Weight = \"3\"", &["1:84: `Weight` is a number, not a string"]);
    check_property("Hosts = {\"a\", \"b\"}", &[]);
    check_property("Hosts = \"a\"", &[]);
    check_property("Hosts = {\"a\", 5}", &["1:89: `Hosts` is a string, not 5"]);
    check_property("Ensure = {\"Present\"}", &["1:84: `Ensure` is an array, not a string"]);
    check_property(
        "Ensure = \"Gone\"",
        &["1:84: `Ensure` is one of `Present`, `Absent`, not `Gone`"],
    );
    for right in ["20160815142551.203000-420", "00000001123456.000000:000", "2016-08-15T14:25:51Z"]
    {
        check_property(&format!("Since = \"{right}\""), &[]);
    }
    let wrong = "1:83: `Since` is a date and time as a string, not another string";
    check_property("Since = \"tomorrow\"", &[wrong]);
}

/// A password that was written without its quotes, or without its user.
#[test]
fn numbers_in_the_place_of_passwords_are_not_shown() {
    check(
        "instance of MSFT_Credential { UserName = 5; Password = 482913; };",
        &["1:42: `UserName` is a string, not 5", "1:56: `Password` is a string, not an integer"],
    );
    check_property(
        "Owner = 482913",
        &["1:83: `Owner` is an instance of `MSFT_Credential`, not an integer"],
    );
    check(
        "instance of MSFT_WebDownloadManager { ResourceId = \"[ConfigurationRepositoryWeb]r\"; \
         ServerURL = \"https://x\"; RegistrationKey = 482913; };",
        &["1:128: `RegistrationKey` is a string, not an integer"],
    );
}

#[test]
fn keys_and_required_properties() {
    check(
        "instance of Test_Site { ResourceID = \"[Site]a\"; Name = NULL; };",
        &[
            "1:1: the key `Name` of `Test_Site` is missing",
            "1:1: the key `Port` of `Test_Site` is missing",
            "1:1: the required property `Root` of `Test_Site` is missing",
        ],
    );
    let site = |id: &str, name: &str, root: &str| {
        format!(
            "instance of Test_Site {{ ResourceID = \"[Site]{id}\"; Name = \"{name}\"; Port = 80; \
             Root = \"{root}\"; ModuleName = \"{id}\"; }};\n"
        )
    };
    check(
        &(site("a", "x", "/1") + &site("b", "X", "/2") + &site("c", "y", "/3")),
        &["2:1: `[Site]b` and `[Site]a` at 1:1 have the same Name, Port and differ in `Root`"],
    );
    // The same wish twice is none against another.
    check(&(site("a", "x", "/1") + &site("b", "X", "/1")).replace("\"X\"", "\"x\""), &[]);
    // Paths of Linux differ by case.
    check(&(site("a", "/x", "/1") + &site("b", "/X", "/2")), &[]);
    // What a wish refers to is compared by what it is.
    let owned = |id: &str, alias: &str, password: &str| {
        let credential = format!(
            "instance of MSFT_Credential as {alias} {{ UserName = \"u\"; Password = \"{password}\"; }};\n"
        );
        credential + &site(id, "x", "/").replace("Root", &format!("Owner = {alias}; Root"))
    };
    check(&(owned("a", "$a", "p") + &owned("b", "$b", "p")), &[]);
    check(
        &(owned("a", "$a", "p") + &owned("b", "$b", "q")),
        &["4:1: `[Site]b` and `[Site]a` at 2:1 have the same Name, Port and differ in `Owner`"],
    );
}

#[test]
fn instances_within() {
    let credential = "instance of MSFT_Credential as $c { UserName = \"u\"; Password = \"p\"; };\n";
    check(
        &format!(
            "{credential}instance of Test_Site {{ ResourceID = \"[Site]a\"; Name = \"a\"; Port = 1; \
             Root = \"/\"; Owner = $c; Headers = {{instance of MSFT_KeyValuePair {{ Key = \"k\"; \
             Value = \"v\"; }}}}; }};"
        ),
        &[],
    );
    check_property(
        "Owner = instance of MSFT_Credential { UserName = 1; }",
        &[
            "1:83: the required property `Password` of `MSFT_Credential` is missing",
            "1:124: `UserName` is a string, not 1",
        ],
    );
    check_property(
        "Owner = instance of MSFT_KeyValuePair { Key = \"k\"; }",
        &["1:83: `Owner` is an instance of `MSFT_Credential`, not of `MSFT_KeyValuePair`"],
    );
    check_property(
        "Owner = \"u\"",
        &["1:83: `Owner` is an instance of `MSFT_Credential`, not a string"],
    );
    // One that is named is checked once, however often it is used.
    check(
        "instance of MSFT_KeyValuePair as $k { Value = \"v\"; };\n\
         instance of Test_Site { ResourceID = \"[Site]a\"; Name = \"a\"; Port = 1; Root = \"/\"; \
         Headers = {$k, $k}; Owner = $k; };",
        &[
            "1:1: the key `Key` of `MSFT_KeyValuePair` is missing",
            "2:111: `Owner` is an instance of `MSFT_Credential`, not of `MSFT_KeyValuePair`",
        ],
    );
}

#[test]
fn classes() {
    check(
        "instance of MSFT_FileDirectoryConfigration { ResourceID = \"[File]a\"; };",
        &["1:1: there is no schema of the class `MSFT_FileDirectoryConfigration`; did you mean \
           `MSFT_FileDirectoryConfiguration`?"],
    );
    let document = mof::parse(b"instance of Unknown { ResourceID = \"[U]a\"; };").document;
    assert!(schemas().check(&document, CheckOptions::default()).is_empty());
    // A class that extends one of which there is no schema cannot be judged.
    let lone = Schemas::base().expect("right").with("x", b"class A : B { string C; };");
    let document = mof::parse(b"instance of A { D = 1; };").document;
    let found = lone.expect("right").check(&document, CheckOptions::default());
    assert_eq!(found[0].to_string(), "1:1: the class `A` extends `B`, of which there is no schema");
    let round = Schemas::default().with("x", b"class A : B { }; class B : A { };").expect("right");
    let document = mof::parse(b"instance of A { };").document;
    assert_eq!(round.check(&document, CheckOptions::default()).len(), 1);
}

#[test]
fn schema_files_that_contradict_themselves_are_refused_with_each_place() {
    let text = "class A { string P; uint8 p; };\nclass B { nothing N; [Key] string ref R; };\nclass a { };";
    let error = Schemas::default().with("bad.mof", text.as_bytes()).expect_err("wrong");
    assert_eq!(
        error.to_string(),
        "document is not valid. document=`bad.mof`, problems=`1:27: the property `p` was declared \
         at 1:18 already; 2:19: `nothing` is no type of a property; 3:1: the class `a` was declared \
         at 1:1 already`"
    );
}

/// What this crate's node brings into its state can be compiled without a schema of the user's own.
#[test]
fn every_class_that_a_node_serves_has_a_schema() {
    let (schemas, served) = (schemas(), Registry::standard(None).expect("every resource"));
    let unknown: Vec<&str> =
        served.classes().filter(|class| schemas.class(class).is_none()).collect();
    assert_eq!(unknown, [""; 0]);
    assert!(served.classes().count() > 20);
}
