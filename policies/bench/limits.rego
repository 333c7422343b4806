package nexus.limits

# The free tier has short answers.
free := {"max_tokens": 512} if input.principal.tier == "free"
