package nexus.masks

# What stays inside reaches the model as it was written; everyone else's backends see it masked.
inside := {"profile": "none", "reason": "stays on local backends"} if data.nexus.routes.registration_number

else := {"profile": "none", "reason": "stays on local backends"} if data.nexus.routes.confidential
