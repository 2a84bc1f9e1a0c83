//! `SHOW TABLES FROM <schema> LIKE '<pattern>'` as a query of `information_schema`: DataFusion
//! itself knows the bare statement only.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    ObjectName, ShowStatementFilter, ShowStatementFilterPosition, ShowStatementIn,
    ShowStatementInParentType, ShowStatementOptions, Statement as SqlStatement,
};

use crate::query::catalog::CATALOG;
use crate::sql::error::SqlError;
use crate::sql::statement;

/// The query that a SHOW TABLES stands for; any other statement as it is. `schemas` are those that
/// there are.
pub(crate) fn as_query(statement: Statement, schemas: &[String]) -> Result<Statement, SqlError> {
    let Statement::Statement(inner) = &statement else { return Ok(statement) };
    let SqlStatement::ShowTables {
        terse: false,
        history: false,
        extended: false,
        full: false,
        external: false,
        show_options:
            ShowStatementOptions {
                show_in,
                starts_with: None,
                limit: None,
                limit_from: None,
                filter_position,
            },
    } = inner.as_ref()
    else {
        return Ok(statement);
    };
    let mut conditions = Vec::new();
    if let Some(ShowStatementIn { parent_type, parent_name: Some(name), .. }) = show_in
        && matches!(parent_type, None | Some(ShowStatementInParentType::Schema))
    {
        let schema = schema_of(name)?;
        if !schemas.contains(&schema) {
            let known = schemas.join(", ");
            return Err(SqlError::Plan(format!("there is no schema {schema:?}, only {known}")));
        }
        conditions.push(format!("table_schema = {}", literal(&schema)));
    } else if show_in.is_some() {
        return Ok(statement);
    }
    match filter_position {
        None => {}
        Some(
            ShowStatementFilterPosition::Infix(filter)
            | ShowStatementFilterPosition::Suffix(filter),
        ) => match filter {
            ShowStatementFilter::Like(pattern) => {
                conditions.push(format!("table_name LIKE {}", literal(pattern)));
            }
            ShowStatementFilter::ILike(pattern) => {
                conditions.push(format!("table_name ILIKE {}", literal(pattern)));
            }
            ShowStatementFilter::Where(_) | ShowStatementFilter::NoKeyword(_) => {
                return Ok(statement);
            }
        },
    }
    if conditions.is_empty() {
        return Ok(statement);
    }
    let conditions = conditions.join(" AND ");
    statement::parse(&format!("SELECT * FROM information_schema.tables WHERE {conditions}"))
}

/// The name of a schema, with or without that of the catalog before it.
fn schema_of(name: &ObjectName) -> Result<String, SqlError> {
    let parts = name.0.iter().map(|part| {
        let ident = part.as_ident()?;
        let is_quoted = ident.quote_style.is_some();
        Some(if is_quoted { ident.value.clone() } else { ident.value.to_ascii_lowercase() })
    });
    match parts.collect::<Option<Vec<_>>>().as_deref() {
        Some([schema]) => Ok(schema.clone()),
        Some([catalog, schema]) if catalog == CATALOG => Ok(schema.clone()),
        _ => Err(SqlError::Plan(format!("{name} is no schema; SHOW TABLES FROM raw"))),
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_become_queries() {
        let schemas = ["raw".to_owned(), "rollup_1m".to_owned()];
        let query = |text: &str| {
            as_query(statement::parse(text)?, &schemas).map(|statement| statement.to_string())
        };
        let of = |conditions: &str| {
            format!("SELECT * FROM information_schema.tables WHERE {conditions}")
        };
        for (text, conditions) in [
            ("SHOW TABLES FROM raw", "table_schema = 'raw'"),
            ("show tables in Rollup_1m", "table_schema = 'rollup_1m'"),
            ("SHOW TABLES IN SCHEMA aether.raw", "table_schema = 'raw'"),
            ("SHOW TABLES LIKE 'it''s%'", "table_name LIKE 'it''s%'"),
            ("SHOW TABLES FROM raw LIKE 'a%'", "table_schema = 'raw' AND table_name LIKE 'a%'"),
        ] {
            assert_eq!(query(text).unwrap(), of(conditions), "{text}");
        }
        assert_eq!(query("SHOW TABLES").unwrap(), "SHOW TABLES");
        assert_eq!(query("SELECT 1").unwrap(), "SELECT 1");
        let error = query(r#"SHOW TABLES FROM "Raw""#).unwrap_err().to_string();
        assert!(error.contains(r#"no schema "Raw", only raw, rollup_1m"#), "{error}");
        let error = query("SHOW TABLES FROM a.raw").unwrap_err().to_string();
        assert!(error.contains("a.raw is no schema"), "{error}");
    }
}
