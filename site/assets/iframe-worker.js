/* Pages opened from a disk may start no worker. The search then runs in a hidden frame, which answers like one. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.srcdoc = "<!doctype html>"
      this.waiting = []
      frame.addEventListener("load", () => {
        const inside = frame.contentWindow
        inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
        inside.importScripts = (...scripts) => Promise.all(scripts.map(script => this.load(inside, script)))
        inside.__index = window.__index
        this.load(inside, new URL(address, location.href).href).then(() => {
          this.inside = inside
          this.waiting.splice(0).forEach(data => this.postMessage(data))
        })
      }, { once: true })
      document.documentElement.append(frame)
    }
    load(inside, address) {
      return new Promise((resolve, reject) => {
        const script = inside.document.createElement("script")
        script.src = address
        script.onload = resolve
        script.onerror = reject
        inside.document.head.append(script)
      })
    }
    postMessage(data) {
      if (this.inside) this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }))
      else this.waiting.push(data)
    }
    set onmessage(listen) { this.addEventListener("message", listen) }
    terminate() {}
  }
}
