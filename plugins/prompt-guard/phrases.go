package main

// A Class is a way of prompt injection.
type Class uint8

const (
	Override  Class = iota // what was said before shall not count
	Reveal                 // the system prompt shall be told
	Role                   // the model shall be someone without rules
	Delimiter              // text that poses as the frame of a conversation
	Payload                // something encoded shall be decoded and obeyed
	ToolOrder              // a document or a tool's output that gives orders to the model
	classes
)

var classNames = [classes]string{"override", "reveal", "role", "delimiter", "payload", "tool_order"}

// A Phrase is what is said in one way or another: one word of each slot in turn. What stands before, behind and
// between is said beside it. Words of a list are parted by |; a space is a gap, or none.
type Phrase struct {
	Class     Class
	Slots     []string
	Fill      string // words that may stand before each slot but the first, a few of them
	Pre, Post string // signs that must stand before and behind
	Unless    string // words that undo it when they follow
	Data      bool   // counts only in what tools say and in what stands beside a conversation
}

// Words of English that are used in several phrases.
const (
	ignoring = "ignore|ignoring|disregard|disregarding|forget|override|overriding|bypass|neglect|do not follow|don't follow|do not obey|" +
		"don't obey|stop following|stop obeying|pay no attention to|no longer follow"
	orders = "instruction|instructions|prompt|prompts|rule|rules|direction|directions|directive|directives|guideline|guidelines|" +
		"command|commands|constraint|constraints|restriction|restrictions|programming|training|policy|policies|system message|" +
		"system messages|system prompt|system instructions|orders"
	former = "previous|prior|above|earlier|preceding|foregoing|former|past|existing|initial|original|system|your|developer|safety"
	fillEN = "all|any|of|the|your|these|those|this|every|each|and|other|that|my|our|its|current|content|system|developer|" +
		"previously|safety|ethical|hidden|secret|initial|original|internal|previous|prior|above|earlier|given|stated|or|to|" +
		"mentioned|provided|written|security|moderation|openai"
)

// Words of Korean.
const (
	formerKO = "이전|위|위에|앞|앞의|앞에|앞서|지금까지|여태까지|기존|상기|너의|네가 받은|당신의|시스템|모든|원래|처음|전에|개발자|관리자"
	ordersKO = "지시|지침|명령|프롬프트|규칙|제약|제한|규정|정책|가이드라인|안내|시스템 메시지|인스트럭션"
	fillKO   = "의|에|에서|서|모든|있는|있던|내린|나온|받은|주어진|준|내가|네가|너의|당신의|너|시스템|대화|했던|한|말한|전부|모두|들|작성된|개발자|" +
		"관리자|사항|문|어|을|를|은|는|이|가|도|다|싹|전체|완전히|그냥|이제|과|와|및|조건|내용|더 이상|무조건|안전|보안|지시|지침|명령|" +
		"규칙|제약|제한|프롬프트|절대로|설정된|설정한|된|제발|즉시|당장|으로|로|까지|입력된|윤리"
	ignoringKO = "무시|잊어|잊고|잊으|잊을|따르지 마|따르지 말|따르지 않|지키지 마|지키지 말|지키지 않|버려|버리고|어기고|어겨|우회|무효화"
	unlessKO   = "하지 마|하지 말|하지 않|하면 안|해서는 안|해선 안|할 수 없|하지는"
)

// Phrases are what is known as injection, as it is written in the wild and in collections for testing models.
var Phrases = []Phrase{
	{Class: Override, Slots: []string{ignoring, former, orders}, Fill: fillEN},
	{Class: Override, Slots: []string{"ignore|disregard|forget|override|bypass|ignoring|disregarding", "all|any|every", "instructions|safety guidelines|ethical guidelines|safety rules|guidelines and rules|rules and guidelines"}, Fill: fillEN},
	{Class: Override, Slots: []string{ignoring, orders, "above|before this|before now|you were given|you have been given|you've been given|given to you|you received|you got|so far|up to now|until now|up to this point"}, Fill: fillEN + "|that"},
	{Class: Override, Slots: []string{"ignore|disregard|forget", "everything|anything|all", "above|before this|you were told|you have been told|you've been told|i said before|that came before|that was said before|written above|said above|you were instructed|you know about your rules"}, Fill: "that|of|the|which|is|was"},
	{Class: Override, Slots: []string{"new|updated|revised|real|actual", "instructions|system prompt|system instructions"}, Fill: "system", Post: ":", Data: true},
	{Class: Override, Slots: []string{"end of|begin|start of", "system prompt|system instructions|system message|new instructions"}, Fill: "the|new", Data: true},

	{Class: Reveal, Slots: []string{"reveal|leak|expose|divulge|recite|disclose|dump", "system prompt|system message|system instructions|initial prompt|initial instructions|hidden prompt|hidden instructions|developer message|developer prompt|secret instructions|secret prompt|pre prompt|your instructions|your prompt|your rules"},
		Fill: "me|us|to|the|your|all|of|full|entire|exact|complete|verbatim|hidden|secret|original|whole|contents|content|text|internal"},
	{Class: Reveal, Slots: []string{"show|print|output|repeat|display|tell|give|write out|copy|return|what is|what are|what was|what were|what's|spell out|summarize|translate|share|quote", "your system prompt|your system message|your system instructions|your initial prompt|your initial instructions|your hidden prompt|your hidden instructions|your developer message|your original instructions|your original prompt|your secret instructions|your full instructions|your exact instructions|your full prompt|your exact prompt|your internal instructions|your full system prompt|your entire prompt|your entire system prompt|your complete system prompt|your exact system prompt"},
		Fill: "me|us|the|all|of|full|entire|exact|complete|verbatim|contents|content|text|out|please"},
	{Class: Reveal, Slots: []string{"repeat|print|output|copy|recite|write down|paste", "everything|the words|all the words|the text|all text|all of the text|all the text", "above"}, Fill: "to|me|that|is|of"},

	{Class: Role, Slots: []string{"you are now|you're now|you are going to be|you will be|act as|pretend to be|behave as|roleplay as|become|simulate", "dan|jailbroken|unrestricted|uncensored|unfiltered|in developer mode|in dan mode|in god mode|free from all restrictions|free of all restrictions|an ai without restrictions|an ai with no restrictions|an unethical ai|an amoral ai"},
		Fill: "a|an|the|going|to|act|as|be|completely|totally|fully|called"},
	{Class: Role, Slots: []string{"do anything now|dan mode enabled|dan mode activated|jailbreak mode|chatgpt with developer mode|developer mode output"}},
	{Class: Role, Slots: []string{"you have|you've|you are|you're|pretend you have|act as if you have|as an ai with|as if you had", "no restrictions|no rules|no content policy|no ethical guidelines|no limitations or rules|not bound by|no longer bound by|free from the typical|freed from all"}, Fill: "now|absolutely|been|that|there|are"},
	{Class: Role, Slots: []string{"answer|respond|reply|act|behave|operate|write", "without any restrictions|without restrictions|with no restrictions|without any filters|without any censorship|without any ethical|without moral|without any moral|ignoring your guidelines"}, Fill: "to|me|all|my|every|question|questions|freely|everything"},

	{Class: Delimiter, Slots: []string{"im start|im end|im sep|endoftext|end of text|begin of text|start header id|end header id|eot id|eom id|begin of sentence|end of sentence|system|assistant|user|start|channel|message|end of turn|start of role"}, Pre: "<|", Post: "|>"},
	{Class: Delimiter, Slots: []string{"inst"}, Pre: "[", Post: "]"},
	{Class: Delimiter, Slots: []string{"inst"}, Pre: "[/", Post: "]"},
	{Class: Delimiter, Slots: []string{"sys"}, Pre: "<<", Post: ">>"},
	{Class: Delimiter, Slots: []string{"sys"}, Pre: "</", Post: ">>"},
	{Class: Delimiter, Slots: []string{"start of turn|end of turn"}, Pre: "<", Post: ">"},
	{Class: Delimiter, Slots: []string{"system|system prompt|system message|instruction|new instruction|new instructions|시스템|시스템 프롬프트"}, Pre: "###", Post: ":"},
	{Class: Delimiter, Slots: []string{"system|system message|system override|admin override|시스템"}, Pre: "[", Post: "]:"},

	{Class: Payload, Slots: []string{"decode|decrypt|unscramble|deobfuscate|base64 decode", "base64|base 64|rot13|hex|hexadecimal|morse|ascii85|caesar|this|the following|below|encoded", "and follow|then follow|and obey|then obey|and execute|then execute|and carry out|then carry out|and do what it says|then do what it says|and comply|and act on|follow its instructions|follow the instructions"},
		Fill: "the|this|following|string|text|message|it|and|encoded|below|payload|code|from|in|base64|rot13|instructions|cipher|sequence"},
	{Class: Payload, Slots: []string{"base64|베이스64|rot13|다음|아래|이 문자열|이 코드|이 메시지|이 텍스트|인코딩된|암호화된", "디코딩|디코드|해독|복호화", "따라|따르|수행해|수행하|실행해|시키는 대로|그대로 해"},
		Fill: "로|으로|인코딩된|암호화된|문자열|메시지|텍스트|코드|문장|를|을|하고|해서|하여|한|후|후에|뒤|뒤에|다음|그|내용|지시|지시를|지시대로|명령|대로|base64|결과|나온|에"},

	{Class: ToolOrder, Slots: []string{"do not|don't|without|never", "tell|telling|inform|informing|notify|notifying|alert|alerting|mention|mentioning|reveal|show", "the user|to the user|the human|to the human"}, Fill: "this|it|that|ever|anything|about", Data: true},
	{Class: ToolOrder, Slots: []string{"if you are|if you're", "an ai|a language model|an llm|an assistant|a large language model|an ai assistant|an ai agent"}, Fill: "reading|this|actually"},
	{Class: ToolOrder, Slots: []string{"important|attention|instruction|instructions|message|note", "to the ai|for the ai|for ai|to ai|for ai assistants|for ai agents|for llms|for the assistant|to the assistant|for the language model|for language models|for any ai"}, Fill: "message|instruction|instructions|note|this|is|a", Data: true},
	{Class: ToolOrder, Slots: []string{"사용자", "알리지 마|알리지 말|말하지 마|말하지 말|언급하지 마|언급하지 말|보여주지 마|보여주지 말"}, Fill: "에게|에게는|한테|께|절대|절대로|이|사실|을|를|내용|은|는|그|이를|이것|도|이 사실", Data: true},
	{Class: ToolOrder, Slots: []string{"ai|인공지능|어시스턴트|언어모델|언어 모델|챗봇|에이전트", "지시|명령|지시사항|전달사항"}, Fill: "에게|에게 주는|를 위한|을 위한|에 대한|대한|내리는|보내는|모델|비서|중요|긴급|의|용", Post: ":", Data: true},

	{Class: Override, Slots: []string{formerKO, ordersKO, ignoringKO}, Fill: fillKO, Unless: unlessKO},
	{Class: Override, Slots: []string{"이전|위|위의|앞|앞의|지금까지|앞서", "내용|말|대화|이야기", "무시"}, Fill: fillKO, Unless: unlessKO},
	{Class: Override, Slots: []string{"지금까지|이전에|앞에서|위에서", "모든 것|모두|전부|모든 걸|모든걸", "잊어|잊고|무시"}, Fill: "의|배운|들은|받은|지시|지시받은|말한|했던|내용|을|를|은|한|다|싹", Unless: unlessKO},

	{Class: Reveal, Slots: []string{"시스템 프롬프트|시스템 메시지|시스템 지시|시스템 지침|초기 프롬프트|초기 지시|숨겨진 프롬프트|숨겨진 지시|숨은 지시|개발자 메시지|너의 지시|네 지시|네 프롬프트|너의 프롬프트|당신의 프롬프트|당신의 지시|너의 지침|당신의 지침|내부 지침|내부 프롬프트|내부 지시",
		"출력해|출력하라|출력하세요|보여줘|보여 주|보여달|알려줘|알려 주|알려달|공개해|공개하|말해|반복해|적어|써줘|써 줘|복사해|유출|누설|프린트해|뭐야|뭐니|무엇이니|무엇인가요|뭔가요|뭔지"},
		Fill: "을|를|은|는|이|가|사항|내용|전체|전부|모두|그대로|원문|원본|한 글자도|빠짐없이|나에게|내게|저에게|좀|다|공개|의|여기|에|먼저|지금|당장|혹시|문|첫 줄부터|이제|숨기지 말고"},

	{Class: Role, Slots: []string{"지금부터|이제부터|앞으로|너는|넌|당신은", "dan|탈옥|탈옥한|탈옥된|개발자 모드|제한 없는|제한이 없는|제약 없는|제약이 없는|검열 없는|검열되지 않은|무검열|규칙이 없는"}, Fill: "너는|넌|당신은|이제|지금부터|아무|아무런|어떤|어떠한|모든|너|의|도|더 이상"},
	{Class: Role, Slots: []string{"아무런|아무|어떠한|어떤|모든", "제한|제약|검열|규칙|윤리|도덕|필터", "없이|무시하고|벗어나"}, Fill: "윤리적|도덕적|도|이나|과|와|적|의|을|를|에서|제한|규칙|안전", Unless: "보장"},
	{Class: Role, Slots: []string{"dan|탈옥|개발자", "모드"}, Fill: "의", Post: ":"},
}

// Denials are words that undo an English phrase when they stand right before it.
const denials = "not|never|don't|mustn't|shouldn't|can't|cannot|won't"

// particles may follow a Korean word that is looked for as a word.
const particles = "은|는|이|가|을|를|의|에|에서|에게|에게서|께|께서|한테|한테서|로|으로|로서|으로서|로써|으로써|로부터|으로부터|와|과|랑|이랑|하고|도|만|까지|부터|보다|처럼|같이|" +
	"마다|나|이나|든|이든|라도|이라도|라고|이라고|라는|이라는|란|이란|들|들은|들이|들을|들의|들아|들도|아|야|이야|요|이요|이에요|예요|입니다|이다|였다|이었다|인|이고|이며|인데|조차|밖에|뿐|님|님이|님은|님의|님을|에는|에도|에서는|에서도|에만|에서만|에게는|에게도|으로는|로는|으로도|로도|까지도|까지는|부터는|만은|만이|만을|들에게|들에|이라서|라서"
