"""ROUGE and BLEU of texts in every script."""

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from raytrain.evaluation.baselines import lead
from raytrain.evaluation.metrics import METRICS
from raytrain.evaluation.metrics.rouge import KINDS, ScriptTokenizer, split_sentences

TEXTS = {
    "Cyrillic": "Они переносят встречу на пятницу",
    "Greek": "Η συνάντηση αναβλήθηκε για Παρασκευή",
    "Arabic": "تم تأجيل الاجتماع إلى يوم الجمعة",
    "Hebrew": "הפגישה נדחתה ליום שישי",
    "Hindi": "बैठक शुक्रवार को होगी",
    "Korean": "회의는 금요일로 연기되었습니다 내일",
    "Georgian": "შეხვედრა გადაიდო პარასკევს დილით",
    "Armenian": "Հանդիպումը հետաձգվել է ուրբաթ",
    "Chinese": "会议推迟到星期五",
    "Japanese": "会議は金曜日に延期されました。",
    "Thai": "การประชุมถูกเลื่อนไปวันศุกร์",
    "Lao": "ກອງປະຊຸມຖືກເລື່ອນ",
    "Khmer": "ការប្រជុំត្រូវបានលើក",
    "Burmese": "အစည်းအဝေးရွှေ့ဆိုင်းသည်",
    "mixed": "iPhone в продаже с 5 мая",
}


@pytest.mark.parametrize("script", TEXTS)
@pytest.mark.parametrize("name", [*KINDS, "bleu", "chrf"])
def test_a_text_scores_1_against_itself_in_every_script(script, name):
    metric, text = METRICS[name], TEXTS[script]
    assert metric.score(metric.stats_many([text], [[text]], [{}])) == pytest.approx(1)
    assert metric.score(metric.stats_many(["?!"], [[text]], [{}])) == 0


def test_words_of_spaced_scripts_and_characters_of_others():
    tokens = ScriptTokenizer(stemmer=True).tokenize
    assert tokens("Они переносят встречу.") == ["они", "переносят", "встречу"]
    assert tokens("ΟΔΟΣ οδός") == ["οδοσ", "οδόσ"]
    assert tokens("会議は２時") == ["会", "議", "は", "2", "時"]
    assert tokens("การ") == ["ก", "า", "ร"]
    assert tokens("и\u0306") == tokens("й") == ["й"]


def test_a_mixed_text_keeps_its_latin_words():
    tokens = ScriptTokenizer(stemmer=True).tokenize
    assert tokens("running iPhones в продаже, cafés") == ["run", "iphon", "в", "продаже", "caf", "s"]
    assert tokens("Café") == ["caf"]  # as rouge_score
    assert tokens("β-carotene") == ["β", "caroten"]


@pytest.mark.parametrize("kind", ["rouge1", "rouge2", "rougeL"])
def test_scores_in_another_script_are_those_of_the_same_words_in_latin(kind):
    """Each word is replaced by one of the other alphabet: nothing else may change."""
    words = {"ana": "анна", "bor": "борис", "dom": "дом", "les": "лес"}
    prediction, target = "ana dom les bor", "bor ana dom"
    expected = RougeScorer([kind]).score(target, prediction)[kind].fmeasure
    prediction, target = (" ".join(words[w] for w in text.split()) for text in (prediction, target))
    assert METRICS[kind].value(prediction, [target], {}) == pytest.approx(expected)


def test_the_presets_of_others_are_not_changed():
    for name in ("rougeL@t5", "rougeL@hf"):
        assert METRICS[name].value(TEXTS["Cyrillic"], [TEXTS["Cyrillic"]], {}) == 0
        assert "other scripts" not in METRICS[name].protocol
    assert "other scripts: words of UAX #29" in METRICS["rougeL"].protocol


def test_bleu_of_chinese_is_sacrebleus_with_its_chinese_tokenizer():
    predictions, targets = ["会议推迟到星期一", "我们明天见"], ["会议推迟到星期五", "我们明天再见吧"]
    metric = METRICS["bleu"]
    expected = BLEU(tokenize="zh", force=True).corpus_score(predictions, [targets]).score / 100
    assert metric.score(metric.stats_many(predictions, [[t] for t in targets], [{}] * 2)) == pytest.approx(expected)
    assert 0 < expected < 1


def test_sentences_end_at_the_marks_of_each_script():
    assert split_sentences("会議。「はい。」次は？いいえ！") == "会議。\n「はい。」\n次は？\nいいえ！"
    assert split_sentences("यह है। वह है।") == "यह है।\nवह है।"
    assert split_sentences("Mr. A. B! c") == "Mr.\nA.\nB!\nc"
    assert lead("一。二。三。四。") == "一。 二。 三。"


@pytest.mark.parametrize("text", ["Ｈｅｌｌｏ ｗｏｒｌｄ", "Ở đó", "😀 👍🏽", "→ ←", "À", "①②", "好 Ｏｋ １２"])
def test_word_for_word_answers_reach_one_whatever_they_are_made_of(text):
    for kind in KINDS:
        if len(ScriptTokenizer(stemmer=True).tokenize(text)) > 1 or kind != "rouge2":
            assert METRICS[kind].value(text, [text], {}) == 1.0
        assert METRICS[kind].value(text, ["something else"], {}) == 0.0
    assert METRICS["rouge1"].value("something else", [text], {}) == 0.0


def test_full_width_letters_are_the_letters_that_they_stand_for():
    tokens = ScriptTokenizer(stemmer=True).tokenize
    assert tokens("Ｈｅｌｌｏ ｗｏｒｌｄ") == ["hello", "world"]
    assert METRICS["rouge1"].value("ok 好", ["Ｏｋ 好"], {}) == 1.0
