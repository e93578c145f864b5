//! What of the language a transformation may use: operators that look at one row and make at most
//! one of it, and the functions that the service's reference lists.
//!
//! See "Supported KQL features in Azure Monitor transformations"
//! (`azure-monitor/data-collection/data-collection-transformations-kql`). What is refused here may
//! be right in a query.

use super::SOURCE;
use crate::query::diagnostic::Problem;
use crate::query::syntax::Span;
use crate::query::syntax::ast::{
    BinaryOperator, Expr, ExprKind, Function, ListOperator, NamedExpr, Operator, OperatorKind,
    ParameterKind, ParsePart, Pipeline, Query, Source, Statement, TextOperator,
};
use std::collections::BTreeSet;

/// The most columns of one `parse`.
const PARSE_COLUMNS_MAX: usize = 10;

/// The functions, with the spellings that the engine and the service's own examples have for them.
const FUNCTIONS: &str = "
    abs ago array_concat array_length base64_decode_tostring base64_decodestring
    base64_encode_tostring base64_encodestring bin binary_and binary_not binary_or
    binary_shift_left binary_shift_right binary_xor case ceiling column_ifexists columnifexists
    countof datetime_add datetime_diff datetime_part dayofmonth dayofweek dayofyear endofday
    endofmonth endofweek endofyear exp exp10 exp2 extract extract_all floor geo_location getmonth
    gettype getyear hash_sha256 hourofday iff iif indexof isempty isfinite isinf isnan isnotempty
    isnotnull isnull log log10 log2 make_datetime make_timespan max_of min_of not now pack
    pack_array parse_cef_dictionary parse_json parse_xml pow replace replace_string round sign
    split startofday startofmonth startofweek startofyear strcat strcat_delim strlen substring
    tobool todatetime todouble todynamic toguid toint tolong tolower toreal tostring totimespan
    toupper weekofyear week_of_year zip";

/// Those of them whose answer is another at another time.
const OF_CLOCK: [&str; 2] = ["ago", "now"];

/// What was found in a transformation.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) problems: Vec<Problem>,
    pub(super) reads_clock: bool,
}

/// Looks for what a transformation may not use.
pub(super) fn check(text: &str, query: &Query) -> Checked {
    let functions = FUNCTIONS.split_ascii_whitespace().map(str::to_owned).collect();
    let mut checker = Checker { text, functions, found: Checked::default() };
    checker.query(query);
    let asked = |statement: &&Statement| matches!(statement, Statement::Ask(_));
    if query.statements.iter().filter(asked).count() != 1 {
        checker.refuse(Span::default(), "a transformation is one query".to_owned());
    }
    checker.found
}

struct Checker<'a> {
    text: &'a str,
    /// Those that may be called, with those that the query itself defines.
    functions: BTreeSet<String>,
    found: Checked,
}

impl Checker<'_> {
    fn refuse(&mut self, span: Span, message: String) {
        self.found.problems.push(Problem::semantic(span, message));
    }

    fn forbid(&mut self, span: Span, what: &str) {
        self.refuse(span, format!("`{what}` cannot be used in a transformation"));
    }

    fn written(&self, span: Span) -> String {
        let text = self.text.get(span.start..span.end).unwrap_or_default();
        text.split_whitespace().next().unwrap_or_default().to_owned()
    }

    fn query(&mut self, query: &Query) {
        for statement in &query.statements {
            match statement {
                Statement::Let(definition) => {
                    let (name, span) = (&definition.name.text, definition.name.span);
                    if name == SOURCE {
                        self.refuse(span, "`source` stands for the rows".to_owned());
                    }
                    match &definition.value.kind {
                        ExprKind::Function(function) => {
                            self.function(function);
                            self.functions.insert(name.clone());
                        }
                        _ => self.table_or_value(&definition.value),
                    }
                }
                Statement::Ask(asked) => self.table_or_value(asked),
                Statement::Set(name, _) => self.forbid(name.span, "set"),
                Statement::Parameters(_) => {
                    self.forbid(Span::default(), "declare query_parameters");
                }
                Statement::Pattern(pattern) => self.forbid(pattern.name.span, "declare pattern"),
                Statement::Restrict(_) => self.forbid(Span::default(), "restrict access"),
            }
        }
    }

    fn function(&mut self, function: &Function) {
        for parameter in &function.parameters {
            match &parameter.kind {
                ParameterKind::Scalar { default, .. } => {
                    default.iter().for_each(|value| self.value(value));
                }
                ParameterKind::Table { .. } => {
                    let message = "a function of a transformation takes values, not tables";
                    self.refuse(parameter.name.span, message.to_owned());
                }
            }
        }
        self.query(&function.body);
    }

    /// Where a table can stand, and a value as well.
    fn table_or_value(&mut self, expr: &Expr) {
        match &expr.kind {
            ExprKind::Pipeline(pipeline) => self.pipeline(pipeline),
            _ => self.value(expr),
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline) {
        match &pipeline.source {
            Source::Table(table) => self.table_or_value(table),
            Source::Print(items) => self.named(items),
            Source::Range { name, .. } => self.forbid(name.span, "range"),
            Source::DataTable { span, .. } => {
                let message = "`datatable` cannot be the rows of a transformation";
                self.refuse(*span, message.to_owned());
            }
            Source::Union(_) => self.forbid(Span::default(), "union"),
            Source::Search(_) => self.forbid(Span::default(), "search"),
            Source::Find(_) => self.forbid(Span::default(), "find"),
            Source::Evaluate(call) => self.forbid(call.name.span, "evaluate"),
        }
        for operator in &pipeline.operators {
            self.operator(operator);
        }
    }

    fn operator(&mut self, operator: &Operator) {
        match &operator.kind {
            OperatorKind::Where(predicate) => self.value(predicate),
            OperatorKind::Extend(items) | OperatorKind::Project(items) => self.named(items),
            OperatorKind::ProjectAway(_) | OperatorKind::ProjectRename(_) => {}
            OperatorKind::Parse(parse) if !parse.only_matches => {
                self.value(&parse.text);
                let is_column = |part: &&ParsePart| matches!(part, ParsePart::Column { .. });
                let columns = parse.parts.iter().filter(is_column).count();
                if columns > PARSE_COLUMNS_MAX {
                    let message = format!("{columns} columns of one `parse` are more than 10");
                    self.refuse(operator.span, message);
                }
            }
            _ => {
                let name = self.written(operator.span);
                self.forbid(operator.span, &name);
            }
        }
    }

    fn named(&mut self, items: &[NamedExpr]) {
        items.iter().for_each(|item| self.value(&item.expr));
    }

    fn value(&mut self, expr: &Expr) {
        match &expr.kind {
            ExprKind::Literal(_) | ExprKind::Name(_) | ExprKind::Star(_) => {}
            ExprKind::Call { name, arguments } => {
                if !self.functions.contains(&name.text) {
                    self.forbid(name.span, &format!("{}()", name.text));
                }
                self.found.reads_clock |= OF_CLOCK.contains(&name.text.as_str());
                self.named(arguments);
            }
            ExprKind::Negate(inner) | ExprKind::Member(inner, _) => self.value(inner),
            ExprKind::Binary { operator, left, right } => {
                if !is_allowed(*operator) {
                    self.forbid(expr.span, &operator.symbol());
                }
                self.value(left);
                self.value(right);
            }
            ExprKind::And(parts) | ExprKind::Or(parts) => {
                parts.iter().for_each(|part| self.value(part));
            }
            ExprKind::List { operator, value, list, .. } => {
                if *operator != ListOperator::In {
                    self.forbid(expr.span, operator.symbol());
                }
                self.value(value);
                list.iter().for_each(|item| self.value(item));
            }
            ExprKind::Between { value, low, high, .. } => {
                [value, low, high].into_iter().for_each(|part| self.value(part));
            }
            ExprKind::Index(value, index) => {
                self.value(value);
                self.value(index);
            }
            ExprKind::Columns(_, value) => self.value(value),
            ExprKind::Pipeline(_) => {
                self.refuse(expr.span, "a sub-query cannot be used in a transformation".to_owned());
            }
            ExprKind::Function(_) => {
                self.refuse(expr.span, "a function is defined by `let`".to_owned());
            }
        }
    }
}

const fn is_allowed(operator: BinaryOperator) -> bool {
    use TextOperator as Text;
    let BinaryOperator::Text { operator, .. } = operator else { return true };
    !matches!(
        operator,
        Text::HasPrefix | Text::HasPrefixCase | Text::HasSuffix | Text::HasSuffixCase
    )
}
