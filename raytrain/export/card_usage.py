"""How to load an export, for its model card: no raytrain is needed."""

from __future__ import annotations

from raytrain.report.markdown_text import fence

_TRANSFORMERS = """\
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForSeq2SeqLM.from_pretrained(FOLDER)
inputs = tokenizer("PROMPT", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True))"""

_ADAPTER = """\
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
scored = GenerationConfig.from_pretrained(FOLDER)
base = AutoModelForSeq2SeqLM.from_pretrained(BASE, revision=REVISION)  # as named above
model = PeftModel.from_pretrained(base, FOLDER)
inputs = tokenizer("PROMPT", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, generation_config=scored)[0], skip_special_tokens=True))"""

_CTRANSLATE2 = """\
import ctranslate2
from transformers import AutoTokenizer, GenerationConfig

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
scored = GenerationConfig.from_pretrained(FOLDER)
model = ctranslate2.Translator(FOLDER, device="cpu")
tokens = tokenizer.convert_ids_to_tokens(tokenizer("PROMPT").input_ids)
options = {"beam_size": scored.num_beams, "max_decoding_length": scored.max_new_tokens}
answer = model.translate_batch([tokens], **options)[0].hypotheses[0]
print(tokenizer.decode(tokenizer.convert_tokens_to_ids(answer), skip_special_tokens=True))"""


def usage(form: str) -> str:
    """Returns the code that loads an export; FOLDER is the export's folder or repository."""
    code = {"transformers": _TRANSFORMERS, "adapter": _ADAPTER, "ctranslate2": _CTRANSLATE2}[form]
    return (
        "`generation_config.json` holds the settings with which the scores below were measured; prompts were made from "
        "the templates of the tasks.\n\n" + fence(code, "python")
    )
