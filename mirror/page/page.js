// A page that nobody makes any more must not go on saying that all is well.
const old = document.getElementById("old");
const age = Date.now() - Date.parse(old.dataset.made);
if (age > Number(old.dataset.limit)) {
  old.querySelector("b").textContent = Math.max(1, Math.floor(age / 864e5));
  old.hidden = false;
}
