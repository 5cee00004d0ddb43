// Copies the report of a crash. Where the browser does not let it, the text is shown to be copied by hand.
import { openDialog } from "./dialog.js";
import { id } from "./dom.js";
import { toast } from "./toast.js";

async function text(url) {
  const answer = await fetch(url, { redirect: "error" });
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.text();
}

function show(report) {
  id("report-text").value = report;
  openDialog(id("report"));
  id("report-text").select();
}

id("copy-report").addEventListener("click", async ({ currentTarget: { dataset } }) => {
  let report;
  try {
    report = await text(dataset.report);
  } catch {
    return toast(dataset.failed, "error");
  }
  try {
    await navigator.clipboard.writeText(report); // only there in a secure context
    toast(dataset.copied, "success");
  } catch {
    show(report);
  }
});
