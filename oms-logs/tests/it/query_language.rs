//! The page of what is here of the language (`KQL.md`) says of each name what the engine does.

use crate::query::{options, tables};
use oms_core::ErrorKind;
use oms_logs::query;

const PAGE: &str = include_str!("../../KQL.md");

/// Queries of names that have a place only in some queries, or only with some arguments.
const PLACES: &[(&str, &str)] = &[
    ("externaldata", "externaldata(x:long)['place']"),
    ("column_ifexists", "print column_ifexists('x', 1)"),
    ("columnifexists", "print columnifexists('x', 1)"),
    ("table", "let T = datatable(x:long)[1]; table('T')"),
    ("all", "{graph} graph-match (a)-[e*1..2]->(b) where all(e, t > 0) project a.k"),
    ("any", "{graph} graph-match (a)-[e*1..2]->(b) where any(e, t > 0) project a.k"),
    ("map", "{graph} graph-match (a)-[e*1..2]->(b) project m = map(e, t)"),
    ("inner_nodes", "{graph} graph-match (a)-[e*1..2]->(b) project m = map(inner_nodes(e), k)"),
    ("node_degree_in", "{graph} graph-match (a)-->(b) project d = node_degree_in(a)"),
    ("node_degree_out", "{graph} graph-match (a)-->(b) project d = node_degree_out(a)"),
];
const GRAPH: &str = "datatable(f:long, t:long)[1, 2] | make-graph f --> t with_node_id=k |";

/// A query that has the name in the place of its section.
fn place_of(section: &str, name: &str) -> Option<String> {
    if let Some((_, query)) = PLACES.iter().find(|(of, _)| *of == name) {
        return Some(query.replace("{graph}", GRAPH));
    }
    let rows = "datatable(x:long)[1]";
    Some(match (section, name) {
        ("Tabular operators", "range" | "print" | "find") => format!("{name} "),
        ("Tabular operators", _) => format!("{rows} | {name} "),
        ("Statements", _) => format!("{name} "),
        ("Scalar functions", _) => format!("{rows} | serialize y = {name}()"),
        ("Aggregates", _) => format!("{rows} | summarize {name}()"),
        ("Plugins", _) => format!("{rows} | evaluate {name}()"),
        _ => return None,
    })
}

#[tokio::test]
async fn the_page_of_the_language_tells_what_the_engine_does() {
    let (mut section, mut names, mut wrong) = ("", 0, Vec::new());
    for line in PAGE.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        }
        let Some((name, state)) = line.strip_prefix("- `").and_then(|line| line.split_once('`'))
        else {
            continue;
        };
        let Some(query) = place_of(section, name) else { continue };
        names += 1;
        let error = query::run(&tables(), &query, &options()).await.err();
        let is_refused = error.as_ref().is_some_and(|e| matches!(e.kind(), ErrorKind::Unsupported));
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        let is_unknown =
            ["no function `", "no plugin `", "is not an operator", "is not a statement"]
                .iter()
                .any(|unknown| error.contains(unknown));
        let wants_refusal = state.starts_with(": refused");
        assert!(wants_refusal || state.is_empty(), "{line}");
        if is_unknown || is_refused != wants_refusal {
            wrong.push(format!("{line}: {query}: {error}"));
        }
    }
    assert!(names > 550, "the page has {names} names");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
