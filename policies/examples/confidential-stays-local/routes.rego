# METADATA
# title: Confidential prompts, and those with a resident registration number, stay on local backends
# description: |
#   The local pool is the only target, so that a call is refused rather than sent elsewhere while it is down.
package nexus.routes

# 주민등록번호, 외국인등록번호, 여권번호가 든 요청은 밖으로 나가지 않는다.
registration_number := {"targets": ["local"], "reason": "주민등록번호 포함", "priority": 30} if {
	some kind in input.pii.kinds
	kind in {"KR_RRN", "KR_FRN", "KR_PASSPORT"}
}

# A label of a plugin, of the key or of the prompt's own words says the same.
confidential := {"targets": ["local"], "reason": "confidential", "priority": 20} if _confidential

_confidential if input.labels.confidential == "true"

_confidential if input.principal.labels.confidential == "true"

_confidential if {
	some word in input.prompt.keywords
	word in {"대외비", "confidential"}
}
