// Airflow's loader imports this file and takes the component that bears the app's name.

import { Page } from "./page.js";

globalThis["Batches"] = Page;
globalThis.AirflowPlugin = Page;
