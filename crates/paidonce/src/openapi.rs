//! One document for the whole system, merged from the services' own.

use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};

/// The OpenAPI document that the gateway serves. Made from the handlers themselves, so it is
/// there even while a service is not.
#[must_use]
pub fn document() -> OpenApi {
    let info = InfoBuilder::new()
        .title("paidonce")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Orders that are paid exactly once: delivered at least once, applied exactly once.",
        ))
        .build();
    let mut document = OpenApiBuilder::new().info(info).build();
    for part in parts() {
        document.merge(part);
    }
    document
}

fn parts() -> [OpenApi; 2] {
    [orders::openapi(), payments::openapi()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A merge drops what has a name already, without a word.
    #[test]
    fn nothing_is_dropped_by_the_merge() {
        let whole = document();
        let names = |document: &OpenApi| -> BTreeSet<String> {
            let schemas = document
                .components
                .iter()
                .flat_map(|c| c.schemas.keys().cloned());
            let paths = document.paths.paths.keys().cloned();
            schemas.chain(paths).collect()
        };
        let shared: BTreeSet<String> = [
            "ErrorBody",
            "ErrorCode",
            "ErrorLocation",
            "HTTPValidationError",
            "ValidationError",
        ]
        .map(str::to_owned)
        .into();
        let [orders, payments] = parts();
        let twice: BTreeSet<String> = names(&orders)
            .intersection(&names(&payments))
            .cloned()
            .collect();
        assert!(twice.is_subset(&shared), "both services name {twice:?}");
        let expected: BTreeSet<String> = names(&orders).union(&names(&payments)).cloned().collect();
        assert_eq!(names(&whole), expected);
        assert_eq!(
            whole.paths.paths.len(),
            orders.paths.paths.len() + payments.paths.paths.len()
        );
    }

    #[test]
    fn the_document_is_as_published() {
        insta::assert_json_snapshot!(document());
    }
}
