"""Where the dashboards of deploy/grafana/dashboards are written from, by Grafana's own types."""
