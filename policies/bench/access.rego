# METADATA
# title: The benchmark's subject
# description: |
#   Eight rules in the four packages, as a company might have them, with a table of tenants in data.json. `make bench`
#   measures one decision of both engines by it, with three tenants and with ten thousand.
package nexus.access

# A tenant has the models of its contract; one without a contract has none.
model_not_allowed := {"code": "model_not_allowed", "message": "Your contract does not include this model."} if {
	not input.request.model in data.tenants[input.principal.tenant].models
}

# Tools are for those who may use them.
tools_not_allowed := {"code": "tools_not_allowed", "message": "Tools need the role agent."} if {
	count(input.request.tools) > 0
	not "agent" in input.principal.roles
}
