# Who may call. A rule that holds denies the call; what it says of code and message is told to the caller.
package nexus.access

# A tenant may use the models that data.json lists for it; one that is not listed may use them all.
model_not_allowed := {
	"code": "model_not_allowed",
	"message": "This tenant may not use this model.",
	"reason": sprintf("%v is not among the models of %v", [input.request.model, input.principal.tenant]),
} if {
	models := data.tenants[input.principal.tenant].models
	not input.request.model in models
}
