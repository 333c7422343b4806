# METADATA
# title: Downgrade when the budget runs low
# description: |
#   Above 90 % of its budget a caller gets the small model and shorter answers in place of a refusal, and is told so by a
#   header. Whose tier is in the list is never downgraded.
package nexus.routes

downgrade := {
	"targets": ["small"],
	"set": {"max_tokens": 512},
	"headers": {"x-downgraded": "budget"},
	"reason": sprintf("%d %% of the budget used", [floor(input.budget.used_ratio * 100)]),
	"tags": {"downgraded": "true"},
} if {
	input.budget.used_ratio > data.budget.downgrade_above
	not input.principal.tier in data.budget.never
}
