// A picture grows when it is clicked; a title of the table sorts by its column.
const dialog = document.querySelector("dialog");
for (const panel of document.querySelectorAll(".panel")) {
  panel.addEventListener("click", () => {
    dialog.querySelector("img").src = panel.querySelector("img").src;
    dialog.querySelector("p").textContent = panel.querySelector("img").alt;
    dialog.showModal();
  });
}
dialog.addEventListener("click", () => dialog.close());

const valueOf = (row, column) => {
  const cell = row.cells[column];
  return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
};
for (const button of document.querySelectorAll(".sortable th button")) {
  button.addEventListener("click", () => {
    const title = button.parentElement, column = title.cellIndex, body = title.closest("table").tBodies[0];
    const rising = title.getAttribute("aria-sort") !== "ascending";
    for (const other of title.parentElement.cells) other.removeAttribute("aria-sort");
    title.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const rows = [...body.rows].sort((one, two) => {
      const a = valueOf(one, column), b = valueOf(two, column);
      const order = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
      return rising ? order : -order;
    });
    body.append(...rows);
  });
}
