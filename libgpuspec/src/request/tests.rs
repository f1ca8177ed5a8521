use serde_json::json;

use super::*;

const GPU: &str = "nvidia.com/gpu";

fn rules(devices: &[&str], annotations: &[&str], environment: &[&str]) -> Rules {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    Rules { devices: owned(devices), annotations: owned(annotations), environment: owned(environment) }
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
