use serde_json::json;

use super::*;

const GPU: &str = "nvidia.com/gpu";

fn rules(devices: &[&str], annotations: &[&str], environment: &[&str]) -> Rules {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    Rules {
        devices: owned(devices),
        annotations: owned(annotations),
        environment: owned(environment),
        variables: Vec::new(),
    }
}

fn config() -> Value {
    json!({
        "process": {"env": ["PATH=/bin", "NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_VISIBLE_DEVICES=0,GPU-1", "AMD_VISIBLE_DEVICES=0-1",
            "NVIDIA_DRIVER_CAPABILITIES=video", "NVIDIA_REQUIRE_CUDA=cuda>=12.4", "NVIDIA_REQUIRE_JETPACK=x"]},
        "annotations": {"cdi.k8s.io/a": "nvidia.com/gpu=3,evil.com/disk=all", "other": "evil.com/disk=1"},
    })
}

#[test]
fn only_what_is_opened_to_a_container_is_heard() {
    let cases: [(Rules, &[&str]); 6] = [
        (rules(&[], &[], &[]), &[]),
        (rules(&["nvidia.com/gpu=all"], &[], &[]), &["nvidia.com/gpu=all"]),
        (rules(&[], &[GPU], &[]), &["nvidia.com/gpu=3"]),
        (rules(&[], &[], &[GPU]), &["nvidia.com/gpu=0", "nvidia.com/gpu=GPU-1"]),
        (rules(&[], &[], &["amd.com/gpu"]), &["amd.com/gpu=0", "amd.com/gpu=1"]),
        (
            rules(&["nvidia.com/gpu=0"], &[GPU], &[GPU]),
            &["nvidia.com/gpu=0", "nvidia.com/gpu=3", "nvidia.com/gpu=GPU-1"],
        ),
    ];
    for (rules, expected) in cases {
        let (request, _) = read(&rules, &config()).unwrap();
        assert_eq!(request.devices, expected, "{rules:?}");
    }
}

#[test]
fn a_stranger_is_told_what_was_not_heard() {
    let (_, notices) = read(&rules(&[], &[GPU], &[]), &config()).unwrap();
    assert_eq!(notices.len(), 1);
    assert!(notices[0].0.starts_with("evil.com/disk=all: asked for by an annotation"), "{notices:?}");
}

#[test]
fn a_qualified_name_in_a_variable_must_be_of_an_opened_kind() {
    let config = json!({"process": {"env": ["NVIDIA_VISIBLE_DEVICES=nvidia.com/mig=0,evil.com/disk=0"]}});
    let (request, notices) = read(&rules(&[], &[], &[GPU, "nvidia.com/mig"]), &config).unwrap();
    assert_eq!((request.devices, notices.len()), (vec!["nvidia.com/mig=0".to_owned()], 1));
}

#[test]
fn capabilities_and_conditions_are_read_with_the_variable_that_asks() {
    let asked = read(&rules(&[], &[], &[GPU]), &config()).unwrap().0;
    assert_eq!(asked.capabilities.get(GPU), capabilities("video").unwrap().as_ref());
    assert_eq!(asked.conditions, [("NVIDIA_REQUIRE_CUDA".to_owned(), "cuda>=12.4".to_owned())]);
    // By the caller's word, with the variables not opened: none of them counts.
    let given = read(&rules(&["nvidia.com/gpu=0"], &[], &[]), &config()).unwrap().0;
    assert_eq!((given.capabilities.len(), given.conditions.len()), (0, 0));
}

#[test]
fn without_the_variable_the_default_counts_for_who_asked_by_variables() {
    let bare = json!({"process": {"env": ["NVIDIA_VISIBLE_DEVICES=all"]}});
    let request = read(&rules(&[], &[], &[GPU]), &bare).unwrap().0;
    assert_eq!(request.capabilities.get(GPU), capabilities("utility,compute").unwrap().as_ref());
    let given = read(&rules(&["nvidia.com/gpu=0"], &[], &[GPU]), &json!({})).unwrap().0;
    assert_eq!(given.capabilities.len(), 0);
    let all = json!({"process": {"env": ["NVIDIA_VISIBLE_DEVICES=none", "NVIDIA_DRIVER_CAPABILITIES=all"]}});
    let request = read(&rules(&[], &[], &[GPU]), &all).unwrap().0;
    assert_eq!((request.capabilities.len(), request.drivers), (0, vec![GPU.to_owned()]));
}

#[test]
fn conditions_can_be_turned_off() {
    let config = json!({"process": {"env": ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_REQUIRE_CUDA=cuda>=99", "NVIDIA_DISABLE_REQUIRE=true"]}});
    assert_eq!(read(&rules(&[], &[], &[GPU]), &config).unwrap().0.conditions, []);
}

#[test]
fn what_cannot_be_meant_is_an_error() {
    for (env, rules) in [
        (json!({"process": {"env": ["NVIDIA_VISIBLE_DEVICES=../0"]}}), rules(&[], &[], &[GPU])),
        (
            json!({"process": {"env": ["NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_DRIVER_CAPABILITIES=warp"]}}),
            rules(&[], &[], &[GPU]),
        ),
        (json!({"annotations": {"cdi.k8s.io/a": "x"}}), rules(&[], &[GPU], &[])),
    ] {
        assert!(read(&rules, &env).is_err(), "{env}");
    }
}

#[test]
fn configs_of_odd_shape_ask_for_nothing() {
    for config in
        [json!(null), json!({"process": 1, "annotations": []}), json!({"process": {"env": [1, "x", {}]}})]
    {
        assert_eq!(read(&rules(&[], &[GPU], &[GPU]), &config).unwrap(), (Request::default(), Vec::new()));
    }
}

/// What a container with one GPU and this variable comes to.
fn with(variable: &str) -> Result<(Request, Vec<Notice>), BadRequest> {
    read(&rules(&[], &[], &[GPU]), &json!({"process": {"env": ["NVIDIA_VISIBLE_DEVICES=0", variable]}}))
}

#[test]
fn r_a_cuda_version_alone_is_a_condition() {
    for (value, expected) in
        [("99.6", "99.6"), ("12.4.1", "12.4"), ("v11.8.0", "11.8"), ("9.0.176-1", "9.0"), ("12", "12.0")]
    {
        let conditions = with(&format!("CUDA_VERSION={value}")).unwrap().0.conditions;
        assert_eq!(conditions, [("CUDA_VERSION".to_owned(), format!("cuda>={expected}"))], "{value}");
    }
    assert_eq!(with("CUDA_VERSION=").unwrap().0.conditions, []);
    for value in ["latest", "12.x", "12 driver>=1", ".", "99999999999.1"] {
        let error = with(&format!("CUDA_VERSION={value}")).unwrap_err();
        assert_eq!(error.to_string(), format!("CUDA_VERSION: `{value}` is not a version"));
    }
    let env = |variables: &[&str]| {
        let config = json!({"process": {"env": variables}});
        read(&rules(&[], &[], &[GPU]), &config).unwrap().0
    };
    let both = env(&["NVIDIA_VISIBLE_DEVICES=0", "CUDA_VERSION=99.6", "NVIDIA_REQUIRE_CUDA=cuda>=12.4"]);
    assert_eq!(both.conditions, [("NVIDIA_REQUIRE_CUDA".to_owned(), "cuda>=12.4".to_owned())]);
    let off = env(&["NVIDIA_VISIBLE_DEVICES=0", "CUDA_VERSION=latest", "NVIDIA_DISABLE_REQUIRE=1"]);
    assert_eq!(off.conditions, []);
    assert_eq!(env(&["CUDA_VERSION=99.6"]), Request::default(), "it asks for no device");
}

#[test]
fn r_what_cannot_be_given_is_refused_by_name() {
    for name in ["NVIDIA_MIG_CONFIG_DEVICES", "NVIDIA_MIG_MONITOR_DEVICES", "NVIDIA_IMEX_CHANNELS"] {
        for value in ["all", "0"] {
            let error = with(&format!("{name}={value}")).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name}={value}: asks for ")), "{error}");
        }
        assert_eq!(with(&format!("{name}=void")).unwrap().1, []);
    }
    for name in ["NVIDIA_GDS", "NVIDIA_GDRCOPY", "NVIDIA_MOFED", "NVIDIA_NVSWITCH"] {
        let error = with(&format!("{name}=enabled")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{name}=enabled: asks for ")), "{error}");
        assert_eq!(with(&format!("{name}=")).unwrap().1, []);
        let notices = with(&format!("{name}=yes")).unwrap().1;
        assert_eq!(notices, [Notice(format!("{name}=yes: ignored; only `enabled` has a meaning"))]);
    }
    // Without a device nothing is asked for.
    let bare = json!({"process": {"env": ["NVIDIA_GDS=enabled"]}});
    assert_eq!(read(&rules(&[], &[], &[GPU]), &bare).unwrap(), (Request::default(), Vec::new()));
}

#[test]
fn r_a_variable_of_the_callers_choice_names_devices() {
    let variables = vec![("DOCKER_RESOURCE_GPU".to_owned(), GPU.to_owned())];
    let both = json!({"process": {"env": ["NVIDIA_VISIBLE_DEVICES=all", "DOCKER_RESOURCE_GPU=GPU-1,GPU-2"]}});
    for environment in [vec![], vec![GPU.to_owned()]] {
        let rules = Rules { environment, variables: variables.clone(), ..Rules::default() };
        let (request, notices) = read(&rules, &both).unwrap();
        assert_eq!(request.devices, ["nvidia.com/gpu=GPU-1", "nvidia.com/gpu=GPU-2"]);
        assert_eq!(request.capabilities.get(GPU), capabilities("utility,compute").unwrap().as_ref());
        let ignored = "NVIDIA_VISIBLE_DEVICES: ignored, since DOCKER_RESOURCE_GPU names the devices";
        assert_eq!(notices, [Notice(ignored.to_owned())]);
    }
    let rules = Rules { variables, ..Rules::default() };
    let other = json!({"process": {"env": ["DOCKER_RESOURCE_GPU=evil.com/disk=0"]}});
    let (request, notices) = read(&rules, &other).unwrap();
    assert_eq!((request.devices.len(), notices.len()), (0, 1));
    let own = json!({"process": {"env": ["NVIDIA_VISIBLE_DEVICES=all"]}});
    assert_eq!(read(&rules, &own).unwrap().0, Request::default());
    let wrong = json!({"process": {"env": ["DOCKER_RESOURCE_GPU=a b"]}});
    assert_eq!(read(&rules, &wrong).unwrap_err().to_string(), "DOCKER_RESOURCE_GPU: `a b` is no device");
}

#[test]
fn r_a_list_of_capabilities_without_a_word_is_the_default() {
    for value in [" ", ",", ", ,"] {
        let request = with(&format!("NVIDIA_DRIVER_CAPABILITIES={value}")).unwrap().0;
        assert_eq!(
            request.capabilities.get(GPU),
            capabilities("utility,compute").unwrap().as_ref(),
            "{value:?}"
        );
    }
}
