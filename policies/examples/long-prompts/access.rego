package nexus.access

too_long := {
	"status": 400,
	"code": "context_length_exceeded",
	"message": sprintf("이 요청은 약 %d 토큰이며, 가장 긴 모델의 한도는 %d 토큰입니다.", [input.prompt.tokens_est, data.contexts.long]),
} if {
	input.prompt.tokens_est > data.contexts.long
}
