package nexus.access

unknown_tier := {
	"code": "unknown_tier",
	"message": "이 키의 등급이 등록되어 있지 않습니다. The tier of this key is not known.",
} if {
	not data.tiers[input.principal.tier]
	not data.contracts[input.principal.tenant]
}
