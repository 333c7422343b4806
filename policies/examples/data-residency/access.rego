package nexus.access

no_region := {
	"code": "no_region",
	"message": "이 테넌트에는 데이터 처리 지역이 정해져 있지 않습니다. No region is agreed for this tenant.",
	"reason": sprintf("tenant %s has no region", [input.principal.tenant]),
} if {
	not data.tenants[input.principal.tenant].region
}
