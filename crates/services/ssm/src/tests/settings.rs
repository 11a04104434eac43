//! Settings of the service.

use super::*;

#[tokio::test]
async fn service_settings_are_what_they_are() {
    let world = World::new();
    let id = "/ssm/parameter-store/default-parameter-tier";
    let arn = format!("arn:aws:ssm:us-east-1:000000000000:servicesetting{id}");
    for named in [id, &arn] {
        let got = ask!(world, get_service_setting, GetServiceSettingRequest { setting_id: named });
        let got = got.unwrap().service_setting.unwrap();
        assert_eq!(got.setting_value.as_deref(), Some("Standard"));
        assert_eq!(got.setting_id.as_deref(), Some(id));
        assert_eq!(got.arn.as_ref(), Some(&arn));
        assert_eq!(got.status.as_deref(), Some("Default"));
    }
    let update = |value: &'static str| api::UpdateServiceSettingRequest {
        setting_id: Some(id.to_owned()),
        setting_value: Some(value.to_owned()),
    };
    let root = world.world.root();
    world.service.update_service_setting(&root, update("Standard")).await.unwrap();
    let refused = world.service.update_service_setting(&root, update("Advanced")).await;
    assert_eq!(code(refused), "ValidationException");
    let reset = ask!(world, reset_service_setting, ResetServiceSettingRequest { setting_id: id });
    assert_eq!(reset.unwrap().service_setting.unwrap().setting_value.as_deref(), Some("Standard"));
    let other = "arn:aws:ssm:us-east-1:111122223333:servicesetting/ssm/opsinsights/opscenter";
    for missing in ["/ssm/opsinsights/opscenter", other, &arn.replace("0000:", "0001:")] {
        let got =
            ask!(world, get_service_setting, GetServiceSettingRequest { setting_id: missing });
        assert_eq!(code(got), "ServiceSettingNotFound", "{missing}");
    }
}
