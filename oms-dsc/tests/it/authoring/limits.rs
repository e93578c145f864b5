//! Small sources that would come to very much: each ends soon, with what it would come to.

use super::{compile, options};
use oms_dsc::authoring::Source;
use serde_json::{Value, json};

/// What is told of a source.
fn told(source: &Value) -> String {
    let told = compile(&source.to_string(), &options()).expect_err("it is too much");
    told.trim_end().to_owned()
}

/// Of every node, and each once.
#[test]
fn what_is_wrong_many_times() {
    let resources: Vec<Value> =
        (0..300).map(|index| json!({"type": "nxFile", "name": format!("[x{index}]")})).collect();
    let nodes: serde_json::Map<String, Value> =
        (0..50).map(|index| (format!("n{index}"), json!({}))).collect();
    let source = json!({"configuration": "T", "nodes": nodes, "resources": resources});
    let told = told(&source);
    assert_eq!(told.lines().count(), 100);
    assert!(told.contains("`x0` is no function") && told.contains("`x99` is no"), "{told}");
}

fn file(contents: &str) -> Value {
    let properties = json!({"DestinationPath": "/f", "Contents": contents});
    json!([{"type": "nxFile", "name": "f", "properties": properties}])
}

#[test]
fn lists_of_lists_of_lists() {
    // 10^10 values, if nobody counted.
    let mut variables =
        vec![("v0".to_owned(), json!("[createArray(1, 2, 3, 4, 5, 6, 7, 8, 9, 0)]"))];
    for level in 1..10 {
        let below = format!("variables('v{}')", level - 1);
        let many = vec![below; 10].join(", ");
        variables.push((format!("v{level}"), json!(format!("[createArray({many})]"))));
    }
    let variables: serde_json::Map<String, Value> = variables.into_iter().collect();
    let source = json!({
        "configuration": "T", "variables": variables,
        "resources": file("[string(length(variables('v9')))]"),
    });
    assert!(told(&source).contains("the expressions of one node make more than"), "{source}");
    let source = json!({
        "configuration": "T",
        "variables": {"sep": format!("[{}' '{}]", "replace(".repeat(4), ", ' ', '          ')".repeat(4))},
        "resources": file("[join(range(0, 1000000), variables('sep'))]"),
    });
    assert!(told(&source).contains("`join` makes more than 1048576 bytes"));
}

/// A text that stands in a composite once and comes to a document often.
#[test]
fn a_large_text_that_is_written_often() {
    let body = json!({"resources": file(&"x".repeat(1 << 20))});
    let used = |count: usize| -> Vec<Value> {
        (0..count).map(|index| json!({"type": "C", "name": index.to_string()})).collect()
    };
    let source =
        |count| json!({"configuration": "T", "composites": {"C": body}, "resources": used(count)});
    assert!(told(&source(130)).contains("the expressions of one node make more than"));
    // It could be made, and no pull server takes it.
    let resources: Vec<Value> = (0..17)
        .map(|index| {
            let path = format!("/{index}");
            let properties = json!({"DestinationPath": path, "Contents": "[parameters('text')]"});
            json!({"type": "nxFile", "name": path, "properties": properties})
        })
        .collect();
    let source = json!({
        "configuration": "T", "parameters": {"text": {"type": "string"}}, "nodes": {"big": {}},
        "resources": resources,
    });
    let mut options = options();
    options.parameters.insert("text".into(), json!("x".repeat(1 << 20)));
    let told = compile(&source.to_string(), &options).expect_err("too large");
    assert!(told.contains("the document of `big` has 178"), "{told}");
    assert!(told.trim_end().ends_with("bytes, and at most 16777216 are taken"), "{told}");
}

/// What stands in a source once and comes to every resource of a document, and is no value.
#[test]
fn long_names_that_are_written_often() {
    let long = "x".repeat(1 << 20);
    let file = json!({"type": "nxFile", "name": "f", "properties": {"DestinationPath": "/f"}});
    let used = |kind: &str, count: usize| -> Vec<Value> {
        (0..count).map(|index| json!({"type": kind, "name": index.to_string()})).collect()
    };
    let source = |name: &str, member: &str, value: Value, count: usize| {
        let mut resource = file.clone();
        resource[member] = value;
        let composites = json!({name: {"resources": [resource]}});
        json!({"configuration": "T", "composites": composites, "resources": used(name, count)})
    };
    for (name, member, value, expect) in [
        ("C", "module", json!({"name": long, "version": "1"}), "`name` has more than 255 bytes"),
        ("C", "module", json!({"name": "m", "version": long}), "`version` has more than 255 bytes"),
        ("C", "type", json!(long), "`type` has more than 255 bytes"),
        // A key has at most 1,024 bytes.
        (&long[..1_000], "type", json!("nxFile"), "a composite's name has more than 255 bytes"),
    ] {
        let told = told(&source(name, member, value, 1));
        assert!(told.contains(expect), "{expect}");
    }
}

/// What is wrong in a composite is told once, and leaves room for what else is wrong.
#[test]
fn what_is_wrong_in_a_composite_that_is_used_often() {
    let wrong = json!({"resources": [{"type": "nxFil", "name": "f"}]});
    let mut resources: Vec<Value> =
        (0..300).map(|index| json!({"type": "C", "name": index.to_string()})).collect();
    resources.push(json!({"type": "nxServic", "name": "s"}));
    let source = json!({"configuration": "T", "composites": {"C": wrong}, "resources": resources});
    let told = told(&source);
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(told.contains("`nxFil`") && told.contains("`nxServic`"), "{told}");
}

#[test]
fn members_of_members() {
    let long = format!("[1{}]", ".a".repeat(8_000));
    let source = json!({"configuration": "T", "resources": file(&long)});
    assert!(told(&source).contains("more than 32 members follow each other"));
    let deep = format!("[string(json('{}{}'))]", "[".repeat(40), "]".repeat(40));
    let source = json!({"configuration": "T", "resources": file(&deep)});
    assert!(told(&source).contains("lists and objects lie more than 32 deep"));
    let mut value = json!(1);
    for _ in 0..40 {
        value = json!([value]);
    }
    let mut options = options();
    options.parameters.insert("deep".into(), value);
    let source = json!({
        "configuration": "T", "parameters": {"deep": {"type": "array"}}, "resources": [],
    });
    let told = compile(&source.to_string(), &options).expect_err("too deep");
    assert!(
        told.contains("the parameter `deep`: lists and objects lie more than 32 deep"),
        "{told}"
    );
}

/// A test's thread has the stack that a server's has.
#[test]
fn documents_that_lie_deep() {
    let read = |open: &str, close: &str, depth: usize| {
        let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        Source::read("deep.yaml", text.as_bytes()).expect_err("no source").to_string()
    };
    assert!(read("[", "]", 40).contains("the document is a list, not an object"));
    assert!(read("{a: ", "}", 40).contains("the document has no `a`"));
    for depth in [41, 60, 70, 900, 100_000] {
        for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")] {
            let told = read(open, close, depth);
            assert!(
                ["depth", "limit", "nest"].iter().any(|word| told.contains(word)),
                "{depth} `{open}`: {told}"
            );
        }
    }
}

/// 20^8 resources, of which none is one.
#[test]
fn composites_of_composites() {
    let uses = |name: &str| -> Vec<Value> {
        (0..20).map(|index| json!({"type": name, "name": index.to_string()})).collect()
    };
    let source = json!({
        "configuration": "T", "composites": {"A": {"resources": uses("A")}}, "resources": uses("A"),
    });
    let depth = told(&source);
    assert!(depth.contains("composites lie more than 8 deep"), "{depth}");
    let mut composites = json!({"C6": {"resources": []}});
    for level in 0..6 {
        composites[format!("C{level}")] = json!({"resources": uses(&format!("C{}", level + 1))});
    }
    let source = json!({"configuration": "T", "composites": composites, "resources": uses("C0")});
    assert!(told(&source).contains("composites come to more than 100000 resources of one node"));
}

#[test]
fn every_resource_of_one_composite_on_every_one_of_another() {
    let many: Vec<Value> = (0..1_001)
        .map(|index| {
            let path = format!("[concat('/', parameters('p'), '/{index}')]");
            json!({"type": "nxFile", "name": index.to_string(), "properties": {"DestinationPath": path}})
        })
        .collect();
    let composite = json!({"parameters": {"p": {"type": "string"}}, "resources": many});
    let used = |name: &str| json!({"type": "C", "name": name, "properties": {"p": name}});
    let mut second = used("b");
    second["dependsOn"] = json!("[C]a");
    let source = json!({
        "configuration": "T", "composites": {"C": composite}, "resources": [used("a"), second],
    });
    let told = told(&source);
    assert!(told.contains("a resource depends on more than 1000 others"), "{told}");
}
