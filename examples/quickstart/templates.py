"""The instruction templates of every task, the same as in `job.yaml` (a test compares them).

Pre-training rows of the probes and tasks use them too. The choice of a template never depends on
the row, so it reveals nothing about the target.
"""

TEMPLATES: dict[str, tuple[str, ...]] = {
    "summaries": (
        "Summarize the conversation:\n{input}",
        "Read the chat and write a short summary.\n\n{input}",
        "{input}\n\nSay in one or two sentences what happens in this chat.",
        "Conversation:\n{input}\n\nSummary:",
        "What is this conversation about?\n{input}",
    ),
    "reviews": (
        "How many stars does this review give?\n{input}",
        "Rate the review from 1 to 5.\n\n{input}",
        "Review: {input}\nStars:",
        "{input}\n\nHow satisfied is the customer, from 1 to 5?",
        "Guess the number of stars of this product review: {input}",
    ),
    "news": (
        "List the named entities:\n{input}",
        "Which people, companies and places are named?\n{input}",
        "{input}\n\nEntities:",
        "Find every PER, ORG and LOC in the sentence.\n\n{input}",
        "Sentence: {input}\nNamed entities:",
    ),
    "functions": (
        "Translate Java to Python:\n{input}",
        "Rewrite this Java function in Python.\n\n{input}",
        "Java:\n{input}\n\nPython:",
        "{input}\n\nThe same function in Python:",
        "How would you write this in Python?\n{input}",
    ),
    "questions": (
        "Answer the question.\n{input}",
        "{input}\nAnswer:",
        "Read the text and answer.\n\n{input}",
        "Text and question: {input}",
        "{input}\n\nAnswer in a few words.",
    ),
    "spanish": (
        "Translate to Spanish: {input}",
        "{input}\nIn Spanish:",
        "How do you say this in Spanish?\n{input}",
        "English: {input}\nSpanish:",
        "Say in Spanish: {input}",
    ),
}
