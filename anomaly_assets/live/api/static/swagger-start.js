// Shows this API's own document; asks no other server to judge it.
"use strict";
window.addEventListener("load", () => {
  const here = location.pathname.replace(/\/docs\/?$/, "");
  SwaggerUIBundle({
    url: `${here}/openapi.json`,
    dom_id: "#swagger-ui",
    deepLinking: true,
    validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout",
  });
});
