// What to ask the node for, and when: parts are asked for by name, together, and one round at a time.

const GATHER = 120; // ms; what is wanted within it is asked for in one round
const PAUSE = 400; // ms between two rounds: a burst of events must not use up the rate limit

/**
 * Asks for parts. `load(parts)` fetches a set of names, `done(error)` hears how it went.
 */
export class Loader {
  #load;
  #done;
  #wanted = new Set();
  #timer = null;
  #isBusy = false;
  #pausedUntil = 0;

  constructor(load, done) {
    this.#load = load;
    this.#done = done;
  }

  /** Ask for parts, soon. */
  want(...parts) {
    for (const part of parts) this.#wanted.add(part);
    if (this.#timer !== null || this.#isBusy) return;
    this.#timer = setTimeout(() => this.#round(), Math.max(GATHER, this.#pausedUntil - performance.now()));
  }

  async #round() {
    this.#timer = null;
    this.#isBusy = true;
    const parts = this.#wanted;
    this.#wanted = new Set();
    let failure = null;
    try {
      await this.#load(parts);
    } catch (error) {
      failure = error;
    }
    this.#isBusy = false;
    this.#pausedUntil = performance.now() + PAUSE;
    this.#done(failure);
    if (this.#wanted.size) this.want();
  }
}
