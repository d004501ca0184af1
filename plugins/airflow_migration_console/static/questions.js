// What a person is asked: the plan that awaits approval, or a part that is done by hand.

import { answer, pages } from "./airflow.js";
import { h, link, say } from "./dom.js";
import { words } from "./words.js";

export function createQuestions(run) {
  const element = h("div", { class: "questions" });
  const shown = new Map();

  function update(asked) {
    const keys = asked.map(keyOf);
    for (const [key, question] of shown) {
      if (!keys.includes(key)) {
        question.remove();
        shown.delete(key);
      }
    }
    asked.forEach((question, number) => {
      if (!shown.has(keys[number])) {
        shown.set(keys[number], oneQuestion(run, question));
        element.append(shown.get(keys[number]));
      }
    });
  }
  return { element, update };
}

const keyOf = ({ task_instance, created_at }) => `${task_instance.task_id} ${task_instance.map_index} ${created_at}`;

function oneQuestion(run, question) {
  const outcome = h("p", { role: "status" });
  const buttons = question.options.map((option, number) =>
    h("button", { type: "button", class: number ? null : "first", onclick: () => respond(option) }, option));

  async function respond(option) {
    buttons.forEach((button) => button.toggleAttribute("disabled", true));
    say(outcome, `${option} …`);
    try {
      await answer(run, question, option);
      say(outcome, `Answered: ${option}. The run goes on in a moment.`);
    } catch (error) {
      say(outcome, refusalOf(error));
      buttons.forEach((button) => button.toggleAttribute("disabled", false));
    }
  }

  return h("section", { class: "question", "aria-label": question.subject },
    h("h3", {}, question.subject),
    h("div", { class: "plan" }, words(question.body ?? "")),
    h("div", { class: "buttons" }, buttons, link(pages.questions(run), "Required Actions")),
    outcome);
}

function refusalOf(error) {
  if (error.status === 403) return "You may read this, but not answer it.";
  if (error.status === 409) return "Somebody has answered it already.";
  return `It could not be answered: ${error.message}`;
}
