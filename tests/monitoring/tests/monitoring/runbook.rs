//! Every alert leads to a page that says what it means, where to look first, and what helps.

use std::fs;

use monitoring::files;

#[test]
fn every_alert_has_a_section_in_the_runbook_with_meaning_first_look_and_remedy() {
    let text = fs::read_to_string(files::root().join("docs/operations.md")).unwrap();
    let alerts = files::alerts();
    assert!(alerts.len() > 20, "only {} alerts found", alerts.len());
    for alert in &alerts {
        let anchor = format!("docs/operations.md#{}", alert.name.to_lowercase());
        assert_eq!(
            alert.runbook.as_deref(),
            Some(anchor.as_str()),
            "{}",
            alert.name
        );
        let heading = format!("\n### {}\n", alert.name);
        let (_, section) = text
            .split_once(&heading)
            .unwrap_or_else(|| panic!("docs/operations.md has no section {}", alert.name));
        let section = section.split("\n### ").next().unwrap();
        for part in ["**Meaning.**", "**First look.**", "**Remedy.**"] {
            assert!(section.contains(part), "{}: no {part}", alert.name);
        }
        assert!(section.contains('`'), "{}: no command", alert.name);
    }
    let sections = text.matches("\n### Engage").count();
    assert_eq!(sections, alerts.len(), "sections of alerts that are gone");
}
