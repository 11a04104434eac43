//! Secrets Manager and Parameter Store, as far as tasks need them.

use std::collections::BTreeMap;

use acs::RoleCredentials;
use longshore_types::Token;
use serde::Deserialize;

use super::{Api, CallError, PARAMETERS, SECRETS};
use crate::engine::secrets::{Parameters, SecretId};

impl Api {
    /// The text of a secret's version.
    pub(crate) async fn secret(
        &self,
        id: &SecretId,
        role: &RoleCredentials,
    ) -> Result<Token, CallError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            secret_string: Option<String>,
        }
        const OPERATION: &str = "GetSecretValue";
        let mut input = serde_json::json!({ "SecretId": id.secret });
        if let Some(stage) = &id.stage {
            input["VersionStage"] = stage.as_str().into();
        }
        if let Some(version) = &id.version {
            input["VersionId"] = version.as_str().into();
        }
        let answer: Answer = self.call_as(SECRETS, OPERATION, &input, Some(role), None).await?;
        let text = answer.secret_string.ok_or_else(|| CallError::Unreadable {
            operation: OPERATION,
            why: "the secret is not a text".to_owned(),
        })?;
        Ok(Token::from_text(text))
    }

    /// Parameters by name, decrypted.
    pub(crate) async fn parameters(
        &self,
        names: &[String],
        role: &RoleCredentials,
    ) -> Result<Parameters, CallError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Parameter {
            name: String,
            value: String,
            /// `:3` or `:label`, where the name was asked for with one.
            #[serde(default)]
            selector: String,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            #[serde(default)]
            parameters: Vec<Parameter>,
            #[serde(default)]
            invalid_parameters: Vec<String>,
        }
        let input = serde_json::json!({ "Names": names, "WithDecryption": true });
        let answer: Answer =
            self.call_as(PARAMETERS, "GetParameters", &input, Some(role), None).await?;
        let values = answer.parameters.into_iter();
        let values: BTreeMap<String, Token> =
            values.map(|it| (it.name + &it.selector, Token::from_text(it.value))).collect();
        Ok(Parameters { values, invalid: answer.invalid_parameters })
    }
}
