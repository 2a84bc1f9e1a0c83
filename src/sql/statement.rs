//! One statement from a text, refused unless it only reads.
//!
//! Invariant: what passes here neither writes nor names a file, and is not nested so deeply that
//! planning it, which recurses, could run out of stack.

use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Query, Select, SetExpr, Statement as SqlStatement, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use datafusion::error::DataFusionError;

use crate::sql::error::SqlError;

/// Longest text of a statement.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Most operators, joins and set operations, each of which may deepen the plan by one.
const OPERATORS_MAX: usize = 500;
/// Most tables in one FROM clause, by commas.
const FROM_MAX: usize = 100;
/// How deep parentheses and subqueries may be nested.
const NESTING_MAX: usize = 50;

/// Parses and checks a text.
pub(crate) fn parse(text: &str) -> Result<Statement, SqlError> {
    if text.len() > TEXT_BYTES_MAX {
        let bytes = text.len();
        return Err(SqlError::Plan(format!(
            "the statement is {bytes} bytes long, more than {TEXT_BYTES_MAX}"
        )));
    }
    let dialect = GenericDialect {};
    let failed = |error: ParserError| SqlError::from(DataFusionError::from(error));
    let tokens = Tokenizer::new(&dialect, text).tokenize().map_err(|error| failed(error.into()))?;
    let operators = tokens.iter().filter(|token| deepens(token)).count();
    if operators > OPERATORS_MAX {
        return Err(SqlError::Plan(format!(
            "the statement has {operators} operators and joins, more than {OPERATORS_MAX}; use IN \
             (…) or a regular expression instead of a long chain"
        )));
    }
    let mut statements = DFParserBuilder::new(text)
        .with_dialect(&dialect)
        .with_recursion_limit(NESTING_MAX)
        .build()
        .and_then(|mut parser| parser.parse_statements())?;
    let Some(statement) = statements.pop_front() else {
        return Err(SqlError::Parse("1:1: parse error: there is no statement".to_owned()));
    };
    if !statements.is_empty() {
        return Err(SqlError::Plan("one statement at a time: the text has several".to_owned()));
    }
    check(&statement)?;
    Ok(statement)
}

fn deepens(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::BETWEEN
                | Keyword::JOIN
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::AT
        ),
        Token::Whitespace(_)
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::Comma
        | Token::Period
        | Token::LParen
        | Token::RParen
        | Token::SemiColon
        | Token::EOF => false,
        // Whatever else there is: operators, casts, subscripts.
        _ => true,
    }
}

fn check(statement: &Statement) -> Result<(), SqlError> {
    match statement {
        Statement::Statement(statement) => check_statement(statement),
        Statement::Explain(explain) => check(&explain.statement),
        Statement::CreateExternalTable(_) => {
            Err(SqlError::ReadOnly("CREATE EXTERNAL TABLE".to_owned()))
        }
        Statement::CopyTo(_) => Err(SqlError::ReadOnly("COPY".to_owned())),
        Statement::Reset(_) => Err(SqlError::ReadOnly("RESET".to_owned())),
    }
}

fn check_statement(statement: &SqlStatement) -> Result<(), SqlError> {
    match statement {
        SqlStatement::Query(query) => match query.visit(&mut OnlyReads) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => Ok(()),
        },
        SqlStatement::Explain { statement, .. } => check_statement(statement),
        SqlStatement::ExplainTable { .. }
        | SqlStatement::ShowTables { .. }
        | SqlStatement::ShowColumns { .. } => Ok(()),
        other => Err(SqlError::ReadOnly(verb(other))),
    }
}

/// The first words of a statement: `CREATE TABLE`, `INSERT INTO`, `SET`.
fn verb(statement: &SqlStatement) -> String {
    let text = statement.to_string();
    let words: Vec<&str> = text
        .split_whitespace()
        .take(2)
        .take_while(|word| word.chars().all(|char| char.is_ascii_uppercase()))
        .collect();
    words.join(" ")
}

/// Looks for what writes inside of a query.
struct OnlyReads;

impl Visitor for OnlyReads {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        match check_body(&query.body) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

fn check_body(body: &SetExpr) -> Result<(), SqlError> {
    match body {
        SetExpr::Select(select) => check_select(select),
        SetExpr::SetOperation { left, right, .. } => check_body(left).and(check_body(right)),
        SetExpr::Query(_) | SetExpr::Values(_) | SetExpr::Table(_) => Ok(()),
        SetExpr::Insert(statement)
        | SetExpr::Update(statement)
        | SetExpr::Delete(statement)
        | SetExpr::Merge(statement) => Err(SqlError::ReadOnly(verb(statement))),
    }
}

fn check_select(select: &Select) -> Result<(), SqlError> {
    if select.into.is_some() {
        return Err(SqlError::ReadOnly("SELECT INTO".to_owned()));
    }
    if select.from.len() > FROM_MAX {
        let tables = select.from.len();
        return Err(SqlError::Plan(format!("{tables} tables in one FROM, more than {FROM_MAX}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_statement_that_reads_passes() {
        for text in [
            "SELECT 1",
            "select * from cpu where host = 'a' ;",
            "WITH a AS (SELECT 1) SELECT * FROM a UNION ALL VALUES (2)",
            "EXPLAIN ANALYZE SELECT 1",
            "DESCRIBE cpu",
            "SHOW TABLES",
            "SHOW COLUMNS FROM cpu",
        ] {
            assert!(parse(text).is_ok(), "{text}: {:?}", parse(text));
        }
        for (text, name) in [
            ("CREATE TABLE a (b INT)", "CREATE TABLE"),
            ("CREATE EXTERNAL TABLE a STORED AS CSV LOCATION '/etc/passwd'", "CREATE EXTERNAL"),
            ("INSERT INTO cpu VALUES (1)", "INSERT INTO"),
            ("DELETE FROM cpu", "DELETE FROM"),
            ("UPDATE cpu SET value = 1", "UPDATE"),
            ("DROP TABLE cpu", "DROP TABLE"),
            ("COPY cpu TO '/tmp/x.csv'", "COPY"),
            ("SET a = 1", "SET"),
            ("EXPLAIN INSERT INTO cpu VALUES (1)", "INSERT INTO"),
            ("WITH a AS (SELECT 1) INSERT INTO cpu SELECT * FROM a", "INSERT"),
            ("SELECT 1 INTO a", "SELECT INTO"),
            ("PREPARE p AS SELECT 1", "PREPARE"),
            ("TRUNCATE TABLE cpu", "TRUNCATE TABLE"),
        ] {
            let error = parse(text).err().unwrap_or_else(|| panic!("{text} passed"));
            assert!(matches!(error, SqlError::ReadOnly(_)), "{text}: {error}");
            assert!(error.to_string().starts_with(name), "{text}: {error}");
        }
        assert!(matches!(parse("SELECT 1; SELECT 2"), Err(SqlError::Plan(_))));
        assert!(matches!(parse(" -- nothing"), Err(SqlError::Parse(_))));
    }

    #[test]
    fn errors_say_where() {
        let error = parse("SELECT *\nFROM a WHERE )").unwrap_err().to_string();
        assert!(error.starts_with("2:"), "{error}");
        let error = parse("SELECT 'a").unwrap_err().to_string();
        assert!(error.starts_with("1:8: parse error: Unterminated string"), "{error}");
    }

    #[test]
    fn what_would_be_planned_too_deeply_is_refused() {
        let chain = vec!["1"; OPERATORS_MAX + 2].join(" + ");
        assert!(parse(&format!("SELECT {chain}")).is_err());
        let nested = format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500));
        let error = parse(&nested).unwrap_err().to_string();
        assert!(error.contains("nested"), "{error}");
        assert!(parse(&format!("SELECT 1 IN ({})", vec!["2"; 10_000].join(","))).is_ok());
    }
}
