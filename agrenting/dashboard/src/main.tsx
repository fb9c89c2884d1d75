import { render } from "preact";
import { App } from "./app";
import { markUnseen } from "./marks";
import { followAddress } from "./router";
import { resume } from "./session";
import "./style/tokens.css";
import "./style/base.css";
import "./style/shell.css";
import "./style/parts.css";
import "./style/controls.css";
import "./style/lists.css";
import "./style/charts.css";
import { followTheme } from "./theme";

markUnseen();
followTheme();
resume();
followAddress();

const root = document.getElementById("app");
if (root !== null) {
  root.replaceChildren();
  render(<App />, root);
}
