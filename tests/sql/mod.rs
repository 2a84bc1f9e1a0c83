//! SQL as data: scripts that load series and compare what queries print.
//!
//! ```text
//! load                          query             statement error <part of the message>
//! cpu{host="a"} 1@0 2@60000     SELECT …          DROP TABLE cpu
//! end                           ----
//!                               cells with tabs between
//! ```
//! `query rowsort` sorts the rows first, `query contains` only asks that every line is found in
//! the output. A blank line ends a record. `AETHER_SQL_PRINT=1` prints what queries give.

mod lives;
mod measure;
mod property;
mod script;

use std::path::Path;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_print_what_they_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sql");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut wrong = Vec::new();
    for file in files {
        script::run(&file, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deepest_statement_that_passes_is_planned() {
    let sql = script::Sql::new();
    let nothing = aetherdb::storage::Snapshot::default();
    let chain = ["column1 = 1"; 165].join(" AND NOT ");
    let query = format!("SELECT count(*) FROM (VALUES (1)) WHERE {chain}");
    assert_eq!(script::cells(&sql.query(&nothing, &query).await.unwrap()), [["0"]]);
    let sum = ["column1"; 490].join(" + ");
    let rows = sql.query(&nothing, &format!("SELECT {sum} FROM (VALUES (1))")).await.unwrap();
    assert_eq!(script::cells(&rows), [["490"]]);
}
