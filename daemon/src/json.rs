//! Answers for scripts: objects put together.

use serde_json::{Map, Value};

/// One object with the fields of all; later ones win. What is no object adds nothing.
pub fn merged(objects: impl IntoIterator<Item = Value>) -> Value {
    let mut all = Map::new();
    for object in objects {
        if let Value::Object(fields) = object {
            all.extend(fields);
        }
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn later_fields_win() {
        let all = merged([json!({ "a": 1, "b": 1 }), json!(7), json!({ "b": 2 })]);
        assert_eq!(all, json!({ "a": 1, "b": 2 }));
    }
}
