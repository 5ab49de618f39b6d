"""Make the chat-template goldens: templates, conversations and the text transformers renders.

Run:

    pip install transformers jinja2
    python make_chat_goldens.py

Writes cases.json beside itself. Each case has name, template, bos_token, eos_token, messages,
add_generation_prompt, extra (more template variables), needs (what a reader must have beyond plain
Jinja: functions, the generation tag, break and continue, values printed as Python prints them) and either expected (the text) or expected_error (the message given to raise_exception).

The templates were written for this file, in the manner of the common model families. Rendering
follows transformers: trim_blocks and lstrip_blocks on, one newline at the template's end dropped,
undefined names print as nothing, tojson keeps non-ASCII text and does not escape HTML.
"""

import json
from pathlib import Path

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).resolve().parent

HEADERS = """\
{%- set turns = messages -%}
{{- bos_token -}}
{%- if turns[0]['role'] == 'system' -%}
    {%- set preamble = turns[0]['content'] | trim -%}
    {%- set turns = turns[1:] -%}
{%- else -%}
    {%- set preamble = '' -%}
{%- endif -%}
{%- if not date_string is defined -%}
    {%- set date_string = 'unknown' -%}
{%- endif -%}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday: ' + date_string + '\\n' + preamble + '<|eot_id|>' -}}
{%- for turn in turns -%}
    {{- '<|start_header_id|>' + turn.role + '<|end_header_id|>\\n\\n' + turn['content'] | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
"""

CHATML = """\
{%- if messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' ~ messages[0].content ~ '<|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == 'user') or (message.role == 'system' and not loop.first) or (message.role == 'assistant' and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for call in message.tool_calls %}
            {%- if call.function is defined %}{% set call = call.function %}{% endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}{{ call.name }}{{- '", "arguments": ' }}{{ call.arguments | tojson }}{{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

THINKING = """\
{%- set state = namespace(last_question=messages | length - 1, searching=true) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if state.searching and message.role == 'user' and message.content is string and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set state.searching = false %}
        {%- set state.last_question = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'assistant' %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > state.last_question and reasoning %}
            {{- '<|im_start|>assistant\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content + '<|im_end|>\\n' }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content + '<|im_end|>\\n' }}
        {%- endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

TURNS = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('This model has no system role') }}"
    "{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles have to alternate: user, assistant, user, ...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
    "{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)

TURNS_WITH_PARTS = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set opening = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}
        {%- set opening = messages[0]['content'][0]['text'] + '\\n\\n' -%}
    {%- endif -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set opening = "" -%}
    {%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (opening if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Unknown kind of content") }}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\\n' }}
{%- endif -%}
"""

INSTRUCT = """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set conversation = messages[1:] %}
{%- else %}
    {%- set conversation = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in conversation %}
    {%- if (message["role"] == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("After the optional system message, roles must alternate user/assistant") }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] | trim + eos_token }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, got " + message["role"]) }}
    {%- endif %}
{%- endfor %}
"""

TAGGED = """\
{% for message in messages %}
{% if message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + '<|end|>' }}
{% elif message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + '<|end|>' }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n' + message['content'] + '<|end|>' }}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|assistant|>\n' }}
{% else %}
{{ eos_token }}
{% endif %}
"""

MIXED = """\
{%- macro shout(text, times=1) -%}
{{ text | upper }}{{ '!' * times }}
{%- endmacro -%}
{%- set state = namespace(users=0, seen=[]) -%}
{%- if strftime_now is defined -%}year has {{ strftime_now('%Y') | length }} digits
{% endif -%}
{# a comment prints nothing -#}
{%- for message in messages -%}
    {%- if message.role == 'system' and message.content.strip().startswith('[quiet]') -%}
        {%- continue -%}
    {%- endif -%}
    {%- if message.content.strip() == 'stop here' -%}
        {%- break -%}
    {%- endif -%}
    {%- if message.role == 'user' -%}
        {%- set state.users = state.users + 1 -%}
    {%- endif -%}
    {{ loop.index }}/{{ loop.length }} {{ message.role | capitalize }}{{ ' (first)' if loop.first }}{{ ' (last)' if loop.last }}: {{ message.content.strip().replace('tea', 'coffee') }}{{ '\\n' -}}
{%- else -%}
    nobody spoke
{%- endfor -%}
users={{ state.users }} tail={{ messages[-1].content[:4] }} middle={{ messages[1:-1] | map(attribute='role') | join(',') }} {{ shout('done', times=2) }} nothing=[{{ not_given }}] {{ 7 // 2 }} {{ 7 % 4 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ 'b' in ['a', 'b'] and 'q' not in 'abc' and 'yes' }} {{ not_given | default('fallback') }} {{ 'x.y.z'.split('.')[1:] | join('-') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}"""

TOOLS_JSON = """\
{%- for message in messages -%}
    {%- if message.get('payload') is mapping -%}
        {{ message.role }}:{{ message.payload | tojson }}
{{ message.payload | tojson(indent=2) }}
{% for key, value in message.payload.items() -%}
{{ key }}={{ value | tojson }};
        {%- endfor -%}
    {%- else -%}
        {{ message.role }}={{ message.content | tojson }}
{% endif -%}
{%- endfor -%}
"""

# Values print as Python prints them; real templates seldom rely on it, so this stands apart.
PYTHON_VALUES = """\
{{ none }} {{ true }} {{ 1.0 }} {{ messages[0].list }} {{ messages[0].map }} {{ 1e20 | tojson }}"""

WHITESPACE = """\
  {% if true %}
    indented text stays
    {% if messages %}  {# lstrip removes blanks before a block only #}
  A{{ ' ' }}
    {%- endif %}
  {% endif +%}
{%+ if true %}kept blank before{% endif %}

last line, then one newline
"""

GENERATION = (
    "{% for message in messages %}{% if message.role == 'assistant' %}<a>{% generation %}{{ message.content }}"
    "{{ eos_token }}{% endgeneration %}</a>{% else %}<u>{{ message.content }}</u>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)

SYSTEM = {"role": "system", "content": "  You answer in one line. \n"}
USER = {"role": "user", "content": "What is 2 + 2?"}
ASSISTANT = {"role": "assistant", "content": " It is 4. "}
AGAIN = {"role": "user", "content": "And <b>\"3\"</b> & 'é' + 5 日本? \n"}


def case(name, template, messages, prompt=True, bos="<s>", eos="</s>", extra=None, needs=()):
    return {
        "name": name,
        "template": template,
        "bos_token": bos,
        "eos_token": eos,
        "messages": messages,
        "add_generation_prompt": prompt,
        "extra": extra or {},
        "needs": list(needs),
    }


LLAMA = {"bos": "<|begin_of_text|>", "eos": "<|eot_id|>"}
GEMMA = {"bos": "<bos>", "eos": "<eos>", "needs": ["raise_exception"]}
QWEN = {"bos": "", "eos": "<|im_end|>"}

CASES = [
    case("headers, system and turns", HEADERS, [SYSTEM, USER, ASSISTANT, AGAIN], **LLAMA),
    case("headers, no system, given date", HEADERS, [USER], False, extra={"date_string": "26 Jul 2024"}, **LLAMA),
    case("chatml, default system", CHATML, [USER, ASSISTANT, AGAIN], **QWEN),
    case("chatml, given system, no prompt", CHATML, [SYSTEM, USER, ASSISTANT], False, **QWEN),
    case(
        "chatml, tool call and two results",
        CHATML,
        [
            USER,
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "type": "function",
                        "function": {"name": "add", "arguments": {"a": 2, "b": 2.5, "note": "é <&>", "deep": [True, None, {}]}},
                    }
                ],
            },
            {"role": "tool", "content": "4.5"},
            {"role": "tool", "content": "{\"ok\": true}"},
        ],
        **QWEN,
    ),
    case(
        "thinking, kept after the last question and dropped before it",
        THINKING,
        [
            USER,
            {"role": "assistant", "content": "<think>\nold thought\n</think>\n\nFour."},
            AGAIN,
            {"role": "assistant", "content": "<think>\nnew thought\n</think>\n\nEight."},
            {"role": "user", "content": "<tool_response>8</tool_response>"},
        ],
        extra={"enable_thinking": False},
        needs=["namespace"],
        **QWEN,
    ),
    case("turns", TURNS, [USER, ASSISTANT, AGAIN], **GEMMA),
    case("turns, system is refused", TURNS, [SYSTEM, USER], **GEMMA),
    case("turns, two users are refused", TURNS, [USER, AGAIN], **GEMMA),
    case("turns with parts, system joins the first", TURNS_WITH_PARTS, [SYSTEM, USER, ASSISTANT, AGAIN], **GEMMA),
    case(
        "turns with parts, content as a list",
        TURNS_WITH_PARTS,
        [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " What is this? "}]},
        ],
        **GEMMA,
    ),
    case("instruct, system on the last user", INSTRUCT, [SYSTEM, USER, ASSISTANT, AGAIN], needs=["raise_exception"]),
    case("instruct, no system", INSTRUCT, [USER, ASSISTANT], False, needs=["raise_exception"]),
    case("instruct, alternation is checked", INSTRUCT, [USER, USER], needs=["raise_exception"]),
    case(
        "instruct, unknown role",
        INSTRUCT,
        [USER, {"role": "tool", "content": "4"}],
        needs=["raise_exception"],
    ),
    case("tagged", TAGGED, [SYSTEM, USER, ASSISTANT, AGAIN], eos="<|endoftext|>"),
    case("tagged, no prompt", TAGGED, [USER, ASSISTANT], False, eos="<|endoftext|>"),
    case(
        "mixed features",
        MIXED,
        [
            {"role": "system", "content": " [quiet] never shown"},
            {"role": "user", "content": "  tea, please\n"},
            {"role": "assistant", "content": "tea it is"},
            {"role": "user", "content": "thanks"},
        ],
        needs=["namespace", "strftime_now", "loopcontrols"],
    ),
    case(
        "mixed features, loop left early",
        MIXED,
        [{"role": "user", "content": "one"}, {"role": "user", "content": "stop here"}, {"role": "user", "content": "two"}],
        needs=["namespace", "strftime_now", "loopcontrols"],
    ),
    case(
        "json",
        TOOLS_JSON,
        [
            AGAIN,
            {
                "role": "tool",
                "content": "",
                "payload": {"z": 1, "a": [1, 2.0, "x\ny\t\"q\" \\ é"], "empty": {}, "none": None, "flag": True, "half": 0.5},
            },
        ],
    ),
    case(
        "values print as in Python",
        PYTHON_VALUES,
        [{"role": "user", "content": "", "list": [1, 2.0, "it's", "q", None], "map": {"k": True}}],
        needs=["python_values"],
    ),
    case("whitespace rules", WHITESPACE, [USER]),
    case("generation tag", GENERATION, [USER, ASSISTANT, AGAIN], needs=["generation"]),
]


def main():
    results = []
    for given in CASES:
        result = dict(given)
        try:
            rendered, _ = render_jinja_template(
                conversations=[given["messages"]],
                chat_template=given["template"],
                add_generation_prompt=given["add_generation_prompt"],
                bos_token=given["bos_token"],
                eos_token=given["eos_token"],
                **given["extra"],
            )
            result["expected"] = rendered[0]
        except jinja2.exceptions.TemplateError as error:
            # A mistake in a template must not become an expected error.
            assert type(error) is jinja2.exceptions.TemplateError, error
            result["expected_error"] = str(error)
        results.append(result)
        print(f"== {given['name']}\n{result.get('expected', 'ERROR ' + result.get('expected_error', ''))!r}")
    (HERE / "cases.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(results)} cases, transformers {transformers.__version__}, jinja2 {jinja2.__version__}")


if __name__ == "__main__":
    main()
