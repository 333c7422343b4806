package llm

import "strings"

func nameSet(list string) names {
	set := names{}
	for _, n := range strings.Fields(list) {
		set[n] = struct{}{}
	}
	return set
}

// What the gateway reads or guards, per kind of object. A key that is none of these but case-folds onto
// one is refused. The top level is one list for all endpoints: stricter than need be and simpler.
var (
	requestNames = nameSet(`model user stream stream_options n best_of max_completion_tokens max_tokens
		max_output_tokens min_tokens temperature tools tool_choice functions function_call messages prompt suffix
		input instructions query queries documents items text_1 text_2 data_1 data_2 text
		prompt_embeds input_ids kv_transfer_params ec_transfer_params chat_template chat_template_kwargs
		custom_logit_processor custom_params lora_path session_params session_id rid request_id bootstrap_host
		bootstrap_port bootstrap_room routed_dp_rank data_parallel_rank vllm_xargs priority cache_salt extra_key
		add_generation_prompt continue_final_message echo logprobs top_logprobs prompt_logprobs return_token_ids
		return_prompt_token_ids response_format previous_response_id store background prediction`)
	streamNames   = nameSet(`include_usage continuous_usage_stats`)
	messageNames  = nameSet(`role content name reasoning reasoning_content refusal tool_calls function_call tool_call_id`)
	partNames     = nameSet(`type text refusal thinking image_url`)
	callNames     = nameSet(`id type function custom`)
	functionNames = nameSet(`name arguments input`)
	toolNames     = nameSet(`type function custom name`)
	itemNames     = nameSet(`type role content output arguments input summary name call_id`)
	documentNames = nameSet(`text content title`)
)
