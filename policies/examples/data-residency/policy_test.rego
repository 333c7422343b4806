package residency_test

import data.nexus

decide(tenant) := decision if {
	decision := nexus.decision with input as {"principal": {"tenant": tenant}}
}

test_korean_tenants_stay_in_korea if {
	every tenant in ["한빛은행", "서울대학교병원"] {
		decide(tenant).targets == ["seoul", "local"]
	}
	decide("한빛은행").reason == "데이터는 대한민국 안에 머문다"
}

test_european_tenants_stay_in_europe if {
	d := decide("Müller GmbH")
	d.targets == ["frankfurt"]
	d.tags == {"region": "eu"}
}

test_tenant_without_a_region_is_denied if {
	d := decide("unknown")
	d.action == "deny"
	d.deny.code == "no_region"
}

test_no_tenant_is_denied if decide("").action == "deny"

test_every_region_has_pools if {
	every tenant in data.tenants {
		count(data.regions[tenant.region].pools) > 0
	}
}

# Whatever else claims a call of such a tenant, residency wins.
test_residency_goes_before_other_rules if {
	d := nexus.decision with input as {"principal": {"tenant": "한빛은행"}}
		with data.nexus.routes.cheap as {"targets": ["cloud"], "priority": 50}
	d.targets == ["seoul", "local"]
	d.matched == {"routes.residency", "routes.cheap"}
}
