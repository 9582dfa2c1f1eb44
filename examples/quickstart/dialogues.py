"""Short chats between two people, with summaries of one or two sentences."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from examples.quickstart.names import CITIES, DAYS, MONTHS, Split, company, speakers

_SLOTS: Mapping[str, tuple[str, ...]] = {
    "day": DAYS,
    "month": MONTHS,
    "city": CITIES,
    "soon": ("today", "tonight", "tomorrow", "this evening", "after work", "in the morning"),
    "gift": ("a board game", "a scarf", "a cookbook", "a plant", "concert tickets", "a teapot", "a backpack"),
    "event": ("a party", "a barbecue", "a dinner", "a picnic", "a game night"),
    "class": ("the class", "the meeting", "the rehearsal", "the training", "the lecture"),
    "delay": (
        "the bus did not come",
        "the train was cancelled",
        "the car broke down",
        "the alarm did not ring",
        "the road is closed",
    ),
    "time": ("at noon", "at six", "at eight", "after lunch", "in an hour", "in ten minutes"),
    "thing": ("drill", "tent", "ladder", "camera", "suitcase", "bike"),
    "purpose": ("fix a shelf", "paint the kitchen", "visit my sister", "clean the roof", "film a wedding"),
    "place": ("the cinema", "the museum", "the beach", "the market", "the swimming pool", "the new cafe"),
    "chore": ("work late", "see the dentist", "look after the kids", "study for a test", "wait for the plumber"),
    "lost": ("jacket", "phone", "scarf", "notebook", "wallet", "charger"),
    "spot": ("under the sofa", "on the kitchen table", "behind the door", "in the hall", "next to the bed"),
    "shop": ("the bakery", "the supermarket", "the corner shop", "the farm shop"),
    "food": ("some bread", "a dozen eggs", "two bottles of milk", "a bag of rice", "some cheese", "a salad"),
    "subject": ("history", "biology", "chemistry", "physics", "driving", "piano"),
    "relative": ("cousin", "brother", "sister", "colleague", "neighbour"),
    "machine": ("washing machine", "fridge", "printer", "heater", "laptop", "dishwasher"),
    "symptom": ("It makes a strange noise.", "It does not start.", "It smells of smoke.", "There is water everywhere."),
    "busy": ("on a business trip", "moving to a new flat", "ill", "on night shift"),
    "job": ("an accountant", "a designer", "an engineer", "a nurse", "a translator", "a driver"),
    "care": ("feed the cat", "walk the dog", "water the plants", "check the mail"),
    "duration": ("two days", "a week", "ten days", "a month"),
    "item": ("desk", "guitar", "sofa", "lamp", "bookshelf", "bicycle"),
    "price": ("twenty", "thirty", "fifty", "eighty", "ninety"),
    "topic": ("bees", "chess players", "a lighthouse", "the moon", "a bank robbery", "two chefs"),
    "opinion": ("boring", "funny", "too long", "touching", "brilliant"),
}


@dataclass(frozen=True)
class _Scenario:
    """Turns of {a} and {b} in alternation, each with several variants, and the summary."""

    turns: tuple[tuple[str, ...], ...]
    summary: str


_SCENARIOS = (
    _Scenario(
        (
            ("Do you know that {c} has a birthday on {day}?", "{c} has a birthday on {day}, remember?"),
            ("Oh, I forgot! What could we give?", "Right! Any idea for a present?", "Yes, we need a present."),
            ("How about {gift}?", "I thought of {gift}.", "I saw {gift} in a shop window."),
            ("I like that.", "Great idea, let's do it.", "Perfect, I will pay half."),
        ),
        "{a} and {b} will give {c} {gift} for the birthday on {day}.",
    ),
    _Scenario(
        (
            ("Sorry, {delay}. I won't make it to {class} in time.", "Bad news, {delay}. Start {class} without me."),
            ("When will you arrive?", "Oh no. When can you be here?"),
            ("I will be there {time}.", "Probably {time}.", "I hope {time}."),
            ("Okay, don't hurry.", "Fine, I will tell the others.", "Thanks for telling me."),
        ),
        "{a} will be late for {class} because {delay}, and will arrive {time}.",
    ),
    _Scenario(
        (
            ("Could you lend me your {thing}?", "Do you still have that {thing}? I need one."),
            ("Sure, what for?", "Yes. What do you want to do with it?"),
            ("I want to {purpose}.", "I have to {purpose}.", "It is time to {purpose}."),
            ("You can have it until {day}.", "No problem, but bring it back on {day}."),
        ),
        "{b} will lend {a} a {thing} until {day} to {purpose}.",
    ),
    _Scenario(
        (
            ("Shall we go to {place} {soon}?", "Do you want to see {place} {soon}?"),
            ("I can't, I have to {chore}.", "Sorry, I must {chore}."),
            ("And on {day}?", "How about {day} then?"),
            ("That works for me.", "{day} is fine.", "Yes, see you there."),
        ),
        "{b} has to {chore} {soon}, so {a} and {b} will go to {place} on {day}.",
    ),
    _Scenario(
        (
            ("I can't find my {lost}. Is it at your place?", "Did I leave my {lost} at your place?"),
            ("Wait a moment. Yes, it is {spot}.", "I have just seen it {spot}.", "It was {spot} all the time."),
            ("Great! I will come by {soon}.", "Thank you! I will pick it up {soon}."),
        ),
        "{a} left a {lost} at {b}'s place. It was {spot}, and {a} will pick it up {soon}.",
    ),
    _Scenario(
        (
            ("I am at {shop}. Do you need anything?", "I am going to {shop}. Shall I get you something?"),
            ("Yes, {food}, please.", "Could you get {food}?", "Only {food}, thanks."),
            ("No problem. I will be back {time}.", "Okay, see you {time}."),
        ),
        "{a} is at {shop} and will bring {b} {food} {time}.",
    ),
    _Scenario(
        (
            ("How was the {subject} exam?", "Did you get the result of the {subject} exam?"),
            ("I passed!", "Much better than I feared. I passed.", "I passed, just like that."),
            ("Congratulations! Let's celebrate on {day}.", "I knew it! I invite you for a drink on {day}."),
            ("Gladly!", "I would love to."),
        ),
        "{b} passed the {subject} exam and will celebrate with {a} on {day}.",
    ),
    _Scenario(
        (
            ("How was the {subject} exam?", "Did you get the result of the {subject} exam?"),
            ("I failed.", "Don't ask. I failed.", "Not good, I failed by two points."),
            ("I am sorry. When can you try again?", "Oh no. Is there a second chance?"),
            ("In {month}.", "Yes, in {month}.", "They say in {month}."),
        ),
        "{b} failed the {subject} exam and can try again in {month}.",
    ),
    _Scenario(
        (
            ("Have you made plans for {month}?", "Where are you going in {month}?"),
            ("I have booked a flight to {city}.", "To {city}, finally!", "I will see {city} at last."),
            ("Wow! Alone?", "Nice. Who is coming with you?"),
            ("With my {relative}.", "My {relative} is coming too."),
        ),
        "{b} is going to {city} with a {relative} in {month}.",
    ),
    _Scenario(
        (
            ("My {machine} is broken. {symptom}", "Something is wrong with my {machine}. {symptom}"),
            ("Call {c}. Mine was repaired in a day.", "{c} can help you, I have the number."),
            ("Thanks, I will call {soon}.", "Good to know, I will try it {soon}."),
        ),
        "{a}'s {machine} is broken. {b} recommends {c}, and {a} will call {soon}.",
    ),
    _Scenario(
        (
            ("I am having {event} on {day}. Will you come?", "You are invited to {event} on {day}!"),
            ("I would love to, but I will be {busy}.", "What a pity, I am {busy} then."),
            ("Too bad. Next time!", "That is a shame. Another time then."),
        ),
        "{b} will be {busy} on {day} and can't come to {event} at {a}'s place.",
    ),
    _Scenario(
        (
            ("I am having {event} on {day}. Will you come?", "You are invited to {event} on {day}!"),
            ("Of course! I will bring {food}.", "Yes! Shall I bring {food}?", "With pleasure. I could bring {food}."),
            ("Wonderful, thank you.", "That would be great."),
        ),
        "{b} will come to {event} at {a}'s place on {day} and bring {food}.",
    ),
    _Scenario(
        (
            ("{company} invited me to an interview!", "Guess what, I have an interview at {company}."),
            ("Congratulations! For which job?", "Great news! What would you do there?"),
            ("They are looking for {job}.", "I would start as {job}."),
            ("And when is it?", "When do you have to be there?"),
            ("On {day}.", "Already on {day}."),
        ),
        "{a} has an interview at {company} for a job as {job} on {day}.",
    ),
    _Scenario(
        (
            ("Could you {care} while I am in {city}?", "I am off to {city}. Would you {care}?"),
            ("For how long?", "How long will you be away?"),
            ("For {duration}.", "It is {duration}."),
            ("Sure, leave me the key.", "I will do that.", "Of course, enjoy the trip."),
        ),
        "{b} will {care} while {a} is in {city} for {duration}.",
    ),
    _Scenario(
        (
            ("Could you {care} while I am in {city}?", "I am off to {city}. Would you {care}?"),
            ("I am afraid I can't. Ask {c}.", "Sorry, I am away myself. But {c} has time."),
            ("Okay, I will ask {soon}.", "Good idea, I will write {soon}."),
        ),
        "{b} can't {care} while {a} is in {city}, so {a} will ask {c} {soon}.",
    ),
    _Scenario(
        (
            ("Is the {item} still for sale?", "I saw that you are selling a {item}."),
            ("Yes, I want {price} euros for it.", "It is yours for {price} euros."),
            ("Deal! I can collect it {soon}.", "That is fair. I will come for it {soon}."),
        ),
        "{a} will buy {b}'s {item} for {price} euros and collect it {soon}.",
    ),
    _Scenario(
        (
            ("Have you seen the film about {topic}?", "What do you think of the film about {topic}?"),
            ("Yes, it was {opinion}.", "I found it {opinion}.", "To be honest, {opinion}."),
            ("I have a ticket for {day}.", "Hm. I will see it on {day}."),
        ),
        "{b} found the film about {topic} {opinion}. {a} will see it on {day}.",
    ),
)
_CLOSINGS = ("See you!", "Talk to you soon.", "Take care!", "Bye!")
_GREETINGS = ("Hi {b}!", "Hey {b}!", "Hello!")


def dialogue(rng: Random, split: Split) -> tuple[str, str]:
    """Returns a chat, one turn per line as `Name: words`, and its summary.

    The pair of speakers belongs to `split`.
    """
    a, b, c = speakers(rng, split)
    scenario = rng.choice(_SCENARIOS)
    values = {name: rng.choice(words) for name, words in _SLOTS.items()}
    values |= {"a": a, "b": b, "c": c, "company": company(rng, split)}
    turns = [rng.choice(templates) for templates in scenario.turns]
    if rng.random() < 0.3:
        turns[0] = f"{rng.choice(_GREETINGS)} {turns[0]}"
    if rng.random() < 0.4:
        turns.append(rng.choice(_CLOSINGS))
    lines = [f"{a if k % 2 == 0 else b}: {turn.format(**values)}" for k, turn in enumerate(turns)]
    return "\n".join(lines), scenario.summary.format(**values)
