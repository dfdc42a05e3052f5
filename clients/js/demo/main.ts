import { el } from "./dom.js";
import { type PageConfig, readConfig } from "./gateway.js";
import { showOneUser } from "./one-user.js";
import { openSession } from "./session.js";
import { showSideBySide } from "./side-by-side.js";

const VALID_USER = /^[A-Za-z0-9._@-]{1,64}$/;

async function start(app: HTMLElement): Promise<void> {
  const config = await configOrRetry(app);
  if (!config.development) {
    say(app, "This demo needs a development server", "Here, the demo users can’t be signed in. Start the project with “make run”.");
    return;
  }
  const user = new URLSearchParams(location.search).get("user");
  if (user === null) {
    showSideBySide(app, await Promise.all([openSession("alice", config), openSession("bob", config)]));
  } else if (VALID_USER.test(user)) {
    showOneUser(app, await openSession(user, config));
  } else {
    say(app, "No such user", "Try alice, bob or carol: the address ends with “?user=alice”.");
  }
}

async function configOrRetry(app: HTMLElement): Promise<PageConfig> {
  for (;;) {
    try {
      return await readConfig();
    } catch {
      say(app, "The server can’t be reached", "Trying again every few seconds…");
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}

function say(app: HTMLElement, title: string, words: string): void {
  app.replaceChildren(el("main", { class: "empty whole-page", role: "alert" }, el("h3", {}, title), el("p", {}, words)));
}

const app = document.getElementById("app");
if (app) {
  start(app).catch((error: unknown) => {
    console.error(error);
    say(app, "The page can’t be started", "Reload it to try again. It needs a browser that lets it keep its data.");
  });
}
