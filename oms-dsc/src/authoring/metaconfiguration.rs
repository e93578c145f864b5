//! Metaconfigurations: what a local configuration manager is told of itself.

use super::emit::{About, Declaration, Declared, Emitter, Kind, finish, push, text};
use crate::configuration::credential::protect;
use crate::configuration::{CheckOptions, ResourceClass, Schemas, meant};
use crate::mof::{Diagnostic, Document, Instance, Item, Position, Value, ValueKind};
use oms_core::Entropy;
use std::collections::{BTreeMap, BTreeSet};

const CLASS: &str = "MSFT_DSCMetaConfiguration";

/// What a manager is for, by its class or what that extends, and the setting that lists it.
const LISTS: [(&str, &str); 5] = [
    ("OMI_ConfigurationDownloadManager", "ConfigurationDownloadManagers"),
    ("OMI_ResourceModuleManager", "ResourceModuleManagers"),
    ("OMI_ReportManager", "ReportManagers"),
    ("MSFT_PartialConfiguration", "PartialConfigurations"),
    ("MSFT_SignatureValidation", "SignatureValidations"),
];

/// The least that intervals may be, in minutes: more often no configuration manager looks.
const LEAST_MINUTES: [(&str, i128); 2] =
    [("RefreshFrequencyMins", 30), ("ConfigurationModeFrequencyMins", 15)];

/// The most that intervals may be, in minutes: a month.
const MINUTES_MAX: i128 = 44_640;

/// Properties that hold ids.
const REFERRING: [&str; 3] = ["ConfigurationSource", "ResourceModuleSource", "DependsOn"];

/// Makes the document of a metaconfiguration, and checks it against the schemas and for what it refers
/// to.
pub(super) fn emit(
    schemas: &Schemas,
    about: &About<'_>,
    settings: &[Declared],
    declarations: &[Declaration],
    entropy: &dyn Entropy,
) -> Result<Document, Vec<Diagnostic>> {
    let mut emitter = Emitter::new(schemas, about, Kind::Metaconfiguration);
    let mut lists: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for declaration in declarations {
        let Some((class, list)) = part(schemas, declaration) else {
            let short = declaration.short_kind();
            let known = schemas.classes().filter(|class| list_of(schemas, class).is_some());
            let meant = meant(short, known.filter_map(|class| class.friendly_name.as_deref()));
            let message = format!("`{short}` is no part of a metaconfiguration{meant}");
            emitter.report(declaration.position, message);
            continue;
        };
        let alias = manager(&mut emitter, schemas, class, declaration);
        let position = declaration.position;
        lists.entry(list).or_default().push(Value { kind: ValueKind::Alias(alias), position });
    }
    let start = Position { line: 1, column: 1 };
    let position = settings.first().map_or(start, |declared| declared.position);
    let mut main = instance(CLASS, Some(emitter.alias(CLASS)), position);
    let schema = schemas.class(CLASS).and_then(|class| schemas.properties(class).ok());
    for declared in settings {
        let known = schema.iter().flatten().find(|p| p.name.eq_ignore_ascii_case(&declared.name));
        if LISTS.iter().any(|(_, list)| list.eq_ignore_ascii_case(&declared.name)) {
            let message = format!("`{}` are given as resources", declared.name);
            emitter.report(declared.position, message);
            continue;
        }
        emitter.property(&mut main, known.copied(), declared);
    }
    for (list, values) in lists {
        push(&mut main, list, ValueKind::Array(values));
    }
    check(&mut emitter, &main, declarations);
    let Emitter { mut items, mut diagnostics, hidden, .. } = emitter;
    items.push(Item::Instance(main));
    items.push(Item::Instance(document_instance(about)));
    let mut document = Document { items };
    if diagnostics.is_empty() {
        let protected = protect(&mut document, about.passwords, entropy);
        diagnostics.extend(protected.err().into_iter().flatten());
    }
    let options = CheckOptions { refuses_unknown_classes: true };
    diagnostics.extend(schemas.check_hiding(&document, options, hidden));
    finish(document, diagnostics)
}

fn instance(class: &str, alias: Option<String>, position: Position) -> Instance {
    Instance {
        qualifiers: Vec::new(),
        class: class.to_owned(),
        alias,
        properties: Vec::new(),
        position,
    }
}

/// The setting that lists instances of a class.
fn list_of(schemas: &Schemas, class: &ResourceClass) -> Option<&'static str> {
    let found = LISTS.iter().find(|(name, _)| schemas.is_a(class, name));
    found.map(|(_, list)| *list)
}

fn part<'a>(
    schemas: &'a Schemas,
    declaration: &Declaration,
) -> Option<(&'a ResourceClass, &'static str)> {
    let class = schemas.resource(declaration.short_kind())?;
    Some((class, list_of(schemas, class)?))
}

/// Adds the instance of a manager or partial configuration; answers its alias.
fn manager<'a>(
    emitter: &mut Emitter<'a>,
    schemas: &'a Schemas,
    class: &'a ResourceClass,
    declaration: &Declaration,
) -> String {
    let schema = schemas.properties(class).unwrap_or_default();
    let alias = emitter.alias(&class.name);
    let mut made = instance(&class.name, Some(alias.clone()), declaration.position);
    push(&mut made, "ResourceId", text(&declaration.id()));
    for declared in &declaration.properties {
        let known = schema.iter().find(|p| p.name.eq_ignore_ascii_case(&declared.name));
        emitter.property(&mut made, known.copied(), declared);
    }
    emitter.depends_on(&mut made, declaration);
    emitter.items.push(Item::Instance(made));
    alias
}

/// `OMI_ConfigurationDocument`. What is encrypted, and what has several managers, only version 2 reads.
fn document_instance(about: &About<'_>) -> Instance {
    let mut made = instance("OMI_ConfigurationDocument", None, Position { line: 1, column: 1 });
    push(&mut made, "Version", text("2.0.0"));
    push(&mut made, "MinimumCompatibleVersion", text("2.0.0"));
    if let Some(author) = about.author {
        push(&mut made, "Author", text(author));
    }
    push(&mut made, "Name", text(about.configuration));
    made
}

/// What the classes do not say: how often, who is there, and what refers to whom.
fn check(emitter: &mut Emitter<'_>, main: &Instance, declarations: &[Declaration]) {
    for (name, least) in LEAST_MINUTES {
        if let Some(property) = main.property(name)
            && let ValueKind::Integer(minutes) = property.value.kind
            && !(least..=MINUTES_MAX).contains(&minutes)
        {
            let position = property.value.position;
            let found = match emitter.hidden.contains(&position) {
                true => String::new(),
                false => format!(", not {minutes}"),
            };
            let message = format!("`{name}` is {least} to {MINUTES_MAX} minutes{found}");
            emitter.report(position, message);
        }
    }
    let mut ids = BTreeSet::new();
    for declaration in declarations {
        if !ids.insert(declaration.id().to_lowercase()) {
            let message = format!("`{}` is declared twice", declaration.id());
            emitter.report(declaration.position, message);
        }
    }
    let pulls = main.text("RefreshMode").is_some_and(|mode| mode.eq_ignore_ascii_case("Pull"));
    let has_source = main.property("ConfigurationDownloadManagers").is_some()
        || main.property("DownloadManagerName").is_some();
    if pulls && !has_source {
        let message = "the node pulls, and there is no repository to pull from";
        emitter.report(main.position, message);
    }
    for declaration in declarations {
        for (id, position) in &declaration.depends_on {
            refer(emitter, &ids, id, *position);
        }
        for declared in &declaration.properties {
            let refers = REFERRING.iter().any(|name| name.eq_ignore_ascii_case(&declared.name));
            let texts = match &declared.value {
                serde_json::Value::Array(values) => values.as_slice(),
                one => std::slice::from_ref(one),
            };
            for id in texts.iter().filter_map(|value| value.as_str()).filter(|_| refers) {
                refer(emitter, &ids, id, declared.value_position);
            }
        }
    }
}

fn refer(emitter: &mut Emitter<'_>, ids: &BTreeSet<String>, id: &str, position: Position) {
    if ids.contains(&id.to_lowercase()) {
        return;
    }
    let message = if emitter.hidden.contains(&position) {
        "nothing has the id that is referred to".to_owned()
    } else {
        let meant = meant(id, ids.iter().map(String::as_str));
        format!("nothing has the id `{id}` that is referred to{meant}")
    };
    emitter.report(position, message);
}
